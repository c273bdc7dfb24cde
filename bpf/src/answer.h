/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Answers SYNs with cookies, in the frames that they came in, while a SYN queue is full. */
#ifndef RINGROAD_ANSWER_H
#define RINGROAD_ANSWER_H

#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "constants.h"
#include "cookie.h"
#include "cursor.h"
#include "maps.h"
#include "parse.h"

struct syn_ack {
	struct tcphdr tcp;
	__u8 option[4]; /* MSS */
};

/* Plain frames only: no VLAN tags, IP options or extension headers. Others are the worker's. */
#define ANSWERED_IPV4 (sizeof(struct ethernet) + sizeof(struct iphdr))
#define ANSWERED_IPV6 (sizeof(struct ethernet) + sizeof(struct ipv6hdr))

/* The MSS option of a SYN that is in one buffer; 0: it has none that can be read. The cursor is behind the TCP header. */
static __always_inline __u32 syn_mss(const struct cursor *c, const struct tcphdr *tcp)
{
	__u32 at = c->at, end = c->at - sizeof(*tcp) + tcp->doff * 4;

	for (int i = 0; i < MAX_SYN_OPTIONS; i++) {
		__u8 *option;

		/* An MSS takes four bytes. All that a SYN can hold is below 128. */
		if (at + 4 > end || at > 128)
			return 0;
		option = c->data + at;
		if ((void *)(option + 4) > c->data_end)
			return 0;
		switch (option[0]) {
		case TCP_OPTION_END:
			return 0;
		case TCP_OPTION_NOP:
			at++;
			continue;
		case TCP_OPTION_MSS:
			return option[1] == 4 ? option[2] << 8 | option[3] : 0;
		}
		if (option[1] < 2)
			return 0;
		at += option[1];
	}
	return 0;
}

/* What cannot have opened a connection by itself: group, loopback and unspecified addresses, and our own. */
static __always_inline bool plausible_source(const struct packet *p)
{
	const struct address *a = &p->src.address;
	__u8 first = a->word[3];

	if (same_address(a, &p->dst.address))
		return false;
	if (p->family == FAMILY_IPV4)
		return first && first != 127 && first < 224;
	return (a->word[0] & 0xff) != 0xff && (a->word[0] || a->word[1] || a->word[2]);
}

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* The sum of words 32-bit words; the order of bytes does not matter to it (RFC 1071). */
static __always_inline __u64 sum_words(const void *from, int words)
{
	const __u32 *word = from;
	__u64 sum = 0;

	for (int i = 0; i < words; i++)
		sum += word[i];
	return sum;
}

static __always_inline void put_ipv4(struct iphdr *ip, const struct packet *p)
{
	ip->version = 4;
	ip->ihl = 5;
	ip->tos = 0;
	ip->tot_len = bpf_htons(sizeof(*ip) + sizeof(struct syn_ack));
	ip->id = 0;
	ip->frag_off = bpf_htons(IPV4_DONT_FRAGMENT);
	ip->ttl = HOP_LIMIT;
	ip->protocol = PROTO_TCP;
	ip->check = 0;
	ip->saddr = p->dst.address.word[3];
	ip->daddr = p->src.address.word[3];
	ip->check = ~fold(sum_words(ip, sizeof(*ip) / 4));
}

static __always_inline void put_ipv6(struct ipv6hdr *ip, const struct packet *p)
{
	*(__be32 *)ip = bpf_htonl(6 << 28);
	ip->payload_len = bpf_htons(sizeof(struct syn_ack));
	ip->nexthdr = PROTO_TCP;
	ip->hop_limit = HOP_LIMIT;
	for (int i = 0; i < 4; i++) {
		ip->saddr.in6_u.u6_addr32[i] = p->dst.address.word[i];
		ip->daddr.in6_u.u6_addr32[i] = p->src.address.word[i];
	}
}

static __always_inline void put_syn_ack(struct syn_ack *to, const struct packet *p, const struct cookie_settings *s, __u32 cookie,
					__be32 acknowledged)
{
	__u16 mss = s->mtu - sizeof(struct tcphdr) - (p->family == FAMILY_IPV4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr));
	const struct address *local = &p->dst.address, *remote = &p->src.address;
	__u32 *word = (__u32 *)&to->tcp;
	__u64 sum;

	to->tcp.source = p->dst.port;
	to->tcp.dest = p->src.port;
	to->tcp.seq = bpf_htonl(cookie);
	to->tcp.ack_seq = acknowledged;
	word[3] = bpf_htonl(sizeof(*to) / 4 << 28 | TCP_SYN_ACK << 16 | s->window);
	word[4] = 0;
	word[5] = bpf_htonl(TCP_OPTION_MSS << 24 | 4 << 16 | mss);
	/* The pseudo-header (RFC 9293 3.1): an IPv4 address of 16 bytes has ffff besides, which is nothing in the sum. */
	sum = sum_words(local, 4) + sum_words(remote, 4) + bpf_htonl(PROTO_TCP) + bpf_htonl(sizeof(*to));
	to->tcp.check = ~fold(sum + sum_words(to, sizeof(*to) / 4));
}

/* The action that sends an answer. */
static __always_inline int send_back(struct xdp_md *ctx)
{
	__u32 zero = 0;
	const struct cookie_settings *settings = bpf_map_lookup_elem(&cookies, &zero);

	return settings && settings->answer == ANSWER_REDIRECT ? bpf_redirect(ctx->ingress_ifindex, 0) : XDP_TX;
}

/*
 * Makes the frame of a SYN to a listener the answer, unless no worker asked for that or it is not a plain one; what is not
 * answered gets verdict otherwise. The checksum of the SYN is not looked at: nothing is kept of it, and whom a damaged one
 * names drops the answer.
 */
static __always_inline enum verdict answer_syn(struct cursor *c, struct packet *p, const struct tcphdr *tcp, enum verdict otherwise)
{
	__u32 ip_end = p->family == FAMILY_IPV4 ? ANSWERED_IPV4 : ANSWERED_IPV6, queue = c->ctx->rx_queue_index, zero = 0;
	const struct cookie_settings *settings = bpf_map_lookup_elem(&cookies, &zero);
	__u64 *until = bpf_map_lookup_elem(&answer_until, &queue);
	struct ethernet *ethernet;
	struct syn_ack *answer;
	__u32 bytes, cookie;
	__u8 peer[6];
	__be32 next;
	void *end;

	if (!settings || settings->answer == ANSWER_NOT || !until || *until <= bpf_ktime_get_ns())
		return otherwise;
	if (c->at != ip_end + sizeof(*tcp) || tcp->doff < 5 || ip_end + tcp->doff * 4 > c->end || tcp->rst || tcp->fin || !plausible_source(p))
		return otherwise;
	/* A packet with frags is no SYN that anyone honest sends. */
	bytes = c->data_end - c->data;
	if (c->frags && bytes != bpf_xdp_get_buff_len(c->ctx))
		return otherwise;
	cookie = cookie_make(p, settings, bpf_ntohl(tcp->seq), cookie_mss(syn_mss(c, tcp)));
	next = bpf_htonl(bpf_ntohl(tcp->seq) + 1);
	if (bpf_xdp_adjust_tail(c->ctx, (int)(ip_end + sizeof(*answer)) - (int)bytes))
		return otherwise;

	ethernet = (void *)(long)c->ctx->data;
	end = (void *)(long)c->ctx->data_end;
	answer = (void *)ethernet + ip_end;
	if ((void *)(answer + 1) > end)
		return DROP_NO_SOCKET; /* cannot be */
	__builtin_memcpy(peer, ethernet->src, sizeof(peer));
	__builtin_memcpy(ethernet->src, ethernet->dst, sizeof(peer));
	__builtin_memcpy(ethernet->dst, peer, sizeof(peer));
	if (p->family == FAMILY_IPV4)
		put_ipv4((void *)(ethernet + 1), p);
	else
		put_ipv6((void *)(ethernet + 1), p);
	put_syn_ack(answer, p, settings, cookie, next);
	return ANSWER_SYN_COOKIE;
}

#endif
