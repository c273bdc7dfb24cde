/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* SYN cookies, as cookie.go has them. */
#ifndef RINGROAD_COOKIE_H
#define RINGROAD_COOKIE_H

#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "constants.h"
#include "maps.h"
#include "parse.h"

/* SipHash-2-4 (Aumasson and Bernstein, 2012). */
struct sip {
	__u64 a, b, c, d;
};

static __always_inline __u64 rotate(__u64 v, int bits)
{
	return v << bits | v >> (64 - bits);
}

static __always_inline void sip_round(struct sip *v)
{
	v->a += v->b;
	v->b = rotate(v->b, 13) ^ v->a;
	v->a = rotate(v->a, 32);
	v->c += v->d;
	v->d = rotate(v->d, 16) ^ v->c;
	v->a += v->d;
	v->d = rotate(v->d, 21) ^ v->a;
	v->c += v->b;
	v->b = rotate(v->b, 17) ^ v->c;
	v->c = rotate(v->c, 32);
}

static __always_inline void sip_add(struct sip *v, __u64 word)
{
	v->d ^= word;
	sip_round(v);
	sip_round(v);
	v->a ^= word;
}

/* The message: local address, remote address, local port, remote port, time, which of the two hashes; 14 or 38 bytes. */
static __attribute__((noinline)) __u32 cookie_hash(const struct packet *p, const struct cookie_settings *s, __u32 time_and_which)
{
	struct sip v = {
		s->key[0] ^ 0x736f6d6570736575ULL,
		s->key[1] ^ 0x646f72616e646f6dULL,
		s->key[0] ^ 0x6c7967656e657261ULL,
		s->key[1] ^ 0x7465646279746573ULL,
	};
	const __be32 *local = p->dst.address.word, *remote = p->src.address.word;
	__u64 bytes = 14;

	if (p->family == FAMILY_IPV4) {
		sip_add(&v, local[3] | (__u64)remote[3] << 32);
	} else {
		bytes = 38;
		sip_add(&v, local[0] | (__u64)local[1] << 32);
		sip_add(&v, local[2] | (__u64)local[3] << 32);
		sip_add(&v, remote[0] | (__u64)remote[1] << 32);
		sip_add(&v, remote[2] | (__u64)remote[3] << 32);
	}
	sip_add(&v, p->dst.port | (__u64)p->src.port << 16 | (__u64)time_and_which << 32 | bytes << 56);
	v.c ^= 0xff;
	for (int i = 0; i < 4; i++)
		sip_round(&v);
	return v.a ^ v.b ^ v.c ^ v.d;
}

static __always_inline __u32 cookie_time(__u64 now)
{
	return now / COOKIE_STEP_NS & 0xff;
}

static __always_inline __u32 cookie_make(const struct packet *p, const struct cookie_settings *s, __u32 seq, __u32 mss)
{
	__u32 time = cookie_time(bpf_ktime_get_ns());

	return cookie_hash(p, s, COOKIE_OUTER << 8) + seq + (time << COOKIE_DATA_BITS) +
	       ((cookie_hash(p, s, time | COOKIE_INNER << 8) + mss) & COOKIE_DATA_MASK);
}

/*
 * Whether an ACK with these numbers, in host byte order, completes a handshake that was answered with a cookie. Workers
 * judge by a time a little ahead of now, and what they answered may be of that.
 */
static __always_inline bool cookie_valid(const struct packet *p, const struct cookie_settings *s, __u32 seq, __u32 ack, __u64 now)
{
	__u32 v = ack - 1 - cookie_hash(p, s, COOKIE_OUTER << 8) - (seq - 1);
	__u32 time = v >> COOKIE_DATA_BITS;

	if (((cookie_time(now) + 1 - time) & 0xff) > COOKIE_MAX_AGE + 1)
		return false;
	return ((v - cookie_hash(p, s, time | COOKIE_INNER << 8)) & COOKIE_DATA_MASK) < COOKIE_VALUES;
}

/* The number of the largest MSS that is not above mss: netstack's table. */
static __always_inline __u32 cookie_mss(__u32 mss)
{
	return mss >= 1460 ? 3 : mss >= 1440 ? 2 : mss >= 1300 ? 1 : 0;
}

#endif
