/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is refused while there is a flood of packets that belong to no connection. Dropped here such a packet costs a
 * tenth of what the stack pays to find that out, and takes no place on the ring from those of connections.
 */
#ifndef RINGROAD_FLOOD_H
#define RINGROAD_FLOOD_H

#include <linux/tcp.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

#include "constants.h"
#include "cookie.h"
#include "maps.h"
#include "parse.h"

/* What a packet is to a flood. */
enum kind {
	KIND_SYN,            /* may open a connection */
	KIND_ACK,            /* an ACK, with data or without: may end a handshake whose state is a cookie */
	KIND_OTHER,          /* RST, FIN, SYN-ACK, nonsense */
	KIND_FRAGMENT,       /* the first: its ports are known */
	KIND_LATER_FRAGMENT, /* of a first that was let through */
	KIND_ERROR,          /* ICMP, about the flow */
};

static __always_inline enum kind kind_of(const struct tcphdr *tcp)
{
	if (tcp->rst || tcp->fin)
		return KIND_OTHER;
	if (tcp->syn)
		return tcp->ack ? KIND_OTHER : KIND_SYN;
	return tcp->ack ? KIND_ACK : KIND_OTHER;
}

static __always_inline void sip_word(struct sip *v, __u64 word)
{
	v->d ^= word;
	sip_round(v);
	v->a ^= word;
}

/*
 * SipHash-1-3 (Aumasson, Bernstein) of source, destination, source port and destination port as they are in the packet.
 * The input is always as long in a family, so its last word is the ports and has no length in it. FlowTable in Go does the
 * same.
 */
static __always_inline __u64 flow_hash(const __u64 key[2], const struct packet *p)
{
	const __be32 *src = p->src.address.word, *dst = p->dst.address.word;
	struct sip v = {
		key[0] ^ 0x736f6d6570736575ULL,
		key[1] ^ 0x646f72616e646f6dULL,
		key[0] ^ 0x6c7967656e657261ULL,
		key[1] ^ 0x7465646279746573ULL,
	};

	if (p->family == FAMILY_IPV4) {
		sip_word(&v, (__u64)dst[3] << 32 | src[3]);
	} else {
		sip_word(&v, (__u64)src[1] << 32 | src[0]);
		sip_word(&v, (__u64)src[3] << 32 | src[2]);
		sip_word(&v, (__u64)dst[1] << 32 | dst[0]);
		sip_word(&v, (__u64)dst[3] << 32 | dst[2]);
	}
	sip_word(&v, (__u64)p->dst.port << 16 | p->src.port);
	v.c ^= 0xff;
	for (int i = 0; i < 3; i++)
		sip_round(&v);
	return v.a ^ v.b ^ v.c ^ v.d;
}

/* Whether the connection of p is open. There may be another one in its slot. */
static __always_inline bool is_open(const struct flood *f, const struct packet *p)
{
	__u32 at = (flow_hash(f->key, p) & f->mask) * f->bytes, word = at / 8;

	for (__u32 i = 0; i < MAX_FLOW_BYTES && i < f->bytes; i += 8, word++) {
		__u64 *slot = bpf_map_lookup_elem(&flows, &word);

		if (!slot || *slot >> at % 8 * 8 & f->bits)
			return true;
	}
	return false;
}

/* Takes one from a bucket of this CPU, or reports false. */
static __always_inline bool take_mine(__u64 *full_at, __u64 now, __u64 cost, __u64 burst)
{
	__u64 at = *full_at > now ? *full_at : now;

	if (at - now > cost * (burst - 1))
		return false;
	*full_at = at + cost;
	return true;
}

#define TAKE(bucket, now, what) take_mine(bucket, now, 1000000000ULL / what, what##_BURST)

/* Whether an ACK to a listener, of no connection that is open, may end a handshake: by its cookie. */
static __always_inline bool may_complete_handshake(struct flood_cpu *cpu, const struct packet *p, __u64 now)
{
	const struct cookie_settings *s;
	__u32 zero = 0;

	s = bpf_map_lookup_elem(&cookies, &zero);
	return s && cookie_valid(p, s, p->seq, p->ack, now) && TAKE(&cpu->acks, now, FLOOD_ACKS);
}

/* Whether a SYN of this flow was dropped lately; if not, it is now. */
static __always_inline bool sent_again(const struct flood *f, const struct packet *p)
{
	__u64 hash = flow_hash(f->key, p), *set, tags;
	__u32 at = hash & (SYN_SETS - 1);
	__u64 tag = hash >> 52 ?: 1; /* an empty set has zeros */

	set = bpf_map_lookup_elem(&syns, &at);
	if (!set)
		return true;
	tags = *set;
	for (int i = 0; i < 60; i += 12) {
		if ((tags >> i & 0xfff) == tag)
			return true;
	}
	*set = tags << 12 | tag;
	return false;
}

/*
 * Whether a SYN to a listener is left to the worker. Of more than it can answer those that it does not must be dropped
 * before they cost it anything, but not by chance: who means one sends it again after a second (RFC 6298 2.1), and that one
 * is let through, while hardly anybody who makes up a source sends the same twice. Where the program answers there is no
 * need.
 */
static __always_inline bool may_open(const struct flood *f, struct flood_cpu *cpu, const struct packet *p, __u64 now)
{
	const struct cookie_settings *s;
	__u32 zero = 0;

	if (now >= f->syns_until)
		return true;
	s = bpf_map_lookup_elem(&cookies, &zero);
	return !s || s->answer != ANSWER_NOT || TAKE(&cpu->syns, now, FLOOD_SYNS) || sent_again(f, p);
}

/* The verdict on p in a flood, v unless it is refused. */
static __always_inline enum verdict sift(const struct flood *f, struct flood_cpu *cpu, struct packet *p, enum kind kind, enum verdict v,
					 __u64 now)
{
	switch (kind) {
	case KIND_SYN:
		/* Backends open none. */
		if (v != REDIRECT_LISTENER)
			return is_open(f, p) ? v : DROP_STRAY;
		if (may_open(f, cpu, p, now))
			return v;
		cpu->refused_syns++;
		return DROP_FIRST_SYN;
	case KIND_ACK:
		if (is_open(f, p) || (v == REDIRECT_LISTENER && may_complete_handshake(cpu, p, now)))
			return v;
		return DROP_STRAY_ACK;
	case KIND_FRAGMENT:
		return is_open(f, p) && TAKE(&cpu->fragments, now, FLOOD_FRAGMENTS) ? v : DROP_STRAY_FRAGMENT;
	case KIND_LATER_FRAGMENT:
		return TAKE(&cpu->fragments, now, FLOOD_FRAGMENTS) ? v : DROP_STRAY_FRAGMENT;
	case KIND_ERROR:
		return is_open(f, p) && TAKE(&cpu->errors, now, FLOOD_ERRORS) ? v : DROP_STRAY_ICMP;
	default:
		return is_open(f, p) ? v : DROP_STRAY;
	}
}

/* A global function, for the verifier. */
__attribute__((noinline)) int judge(struct packet *p, int kind, int v)
{
	struct flood_cpu *cpu;
	struct flood *f;
	__u32 zero = 0;
	__u64 now;
	int result;

	f = bpf_map_lookup_elem(&flood, &zero);
	if (!f || !p)
		return v;
	/* Some milliseconds late, and without reading a clock. */
	now = bpf_ktime_get_coarse_ns();
	if (now >= f->until)
		return v;
	cpu = &f->cpu[bpf_get_smp_processor_id() & (FLOOD_CPUS - 1)];
	result = sift(f, cpu, p, kind, v, now);
	if (result != v)
		cpu->refused++;
	return result;
}

/* The verdict on a packet of ours, v unless there is a flood. */
static __always_inline enum verdict in_flood(struct packet *p, enum kind kind, enum verdict v)
{
	__u32 zero = 0;
	struct flood *f;

	f = bpf_map_lookup_elem(&flood, &zero);
	return f && f->until ? judge(p, kind, v) : v;
}

#endif
