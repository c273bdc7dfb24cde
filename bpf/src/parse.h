/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* From the frame to the transport header. Nothing here knows what is ours. */
#ifndef RINGROAD_PARSE_H
#define RINGROAD_PARSE_H

#include <linux/types.h>
#include <bpf/bpf_endian.h>

#include "constants.h"
#include "cursor.h"
#include "maps.h"

/* The addresses and, once known, the ports of a packet. */
struct packet {
	struct endpoint src;
	struct endpoint dst;
	__u32 family; /* FAMILY_IPV4 or FAMILY_IPV6 */
	__u32 filter; /* to a listener, through the lists and the limits */
	__u32 seq, ack; /* of a whole segment */
};

static __always_inline bool is_vlan(__be16 type)
{
	return type == bpf_htons(ETHERTYPE_8021Q) || type == bpf_htons(ETHERTYPE_8021AD);
}

static __always_inline void set_ipv4(struct address *a, __be32 ip)
{
	a->word[0] = 0;
	a->word[1] = 0;
	a->word[2] = bpf_htonl(0xffff);
	a->word[3] = ip;
}

static __always_inline void set_ipv6(struct address *a, const struct in6_addr *ip)
{
	a->word[0] = ip->in6_u.u6_addr32[0];
	a->word[1] = ip->in6_u.u6_addr32[1];
	a->word[2] = ip->in6_u.u6_addr32[2];
	a->word[3] = ip->in6_u.u6_addr32[3];
}

/* A mapped address must not be on the wire; there it would pass for the IPv4 address it maps. */
static __always_inline bool is_ipv4_mapped(const struct address *a)
{
	return !a->word[0] && !a->word[1] && a->word[2] == bpf_htonl(0xffff);
}

static __always_inline bool same_address(const struct address *a, const struct address *b)
{
	return a->word[0] == b->word[0] && a->word[1] == b->word[1] && a->word[2] == b->word[2] && a->word[3] == b->word[3];
}

/* Bytes of an IPv4 header, or 0 if it is not one. */
static __always_inline __u32 ipv4_header_bytes(const struct iphdr *ip)
{
	if (ip->version != 4 || ip->ihl < 5)
		return 0;
	return ip->ihl * 4;
}

enum chain_end {
	CHAIN_UPPER,    /* the cursor stands on the header that next names */
	CHAIN_LATER,    /* a fragment other than the first: there is no header to see */
	CHAIN_CUT,      /* the packet ends within the chain */
	CHAIN_TOO_LONG, /* more headers than are followed, or a second fragment header */
	CHAIN_ROUTED,   /* a routing header with segments left: this host is not the last destination */
};

struct chain {
	__u32 at;            /* offset of the header that next names */
	__be32 id;           /* valid iff first_fragment or CHAIN_LATER */
	__u8 next;           /* protocol number */
	bool first_fragment; /* of several */
};

static __always_inline bool is_extension(__u8 next)
{
	return next == PROTO_HOP_BY_HOP || next == PROTO_ROUTING || next == PROTO_FRAGMENT || next == PROTO_DEST_OPTIONS;
}

/*
 * Follows IPv6 extension headers (RFC 8200 4) from chain->next. The order is not checked; the stack behind does that.
 * Authentication and ESP headers are not followed: without a security association nobody can say what is behind them.
 */
static __always_inline enum chain_end follow_chain(struct cursor *c, struct chain *chain)
{
	bool fragment_seen = false;

	for (int i = 0; i < MAX_EXTENSION_HEADERS; i++) {
		struct ipv6_extension extension;
		struct ipv6_fragment fragment;
		__u16 flags;

		if (!is_extension(chain->next))
			return CHAIN_UPPER;
		if (chain->next != PROTO_FRAGMENT) {
			if (!pull_extension(c, &extension))
				return CHAIN_CUT;
			if (chain->next == PROTO_ROUTING && extension.segments_left)
				return CHAIN_ROUTED;
			c->at += (extension.units + 1) * 8 - sizeof(extension);
			if (c->at > c->end)
				return CHAIN_CUT;
			chain->next = extension.next;
			continue;
		}
		if (fragment_seen)
			return CHAIN_TOO_LONG;
		fragment_seen = true;
		if (!pull_fragment(c, &fragment))
			return CHAIN_CUT;
		flags = bpf_ntohs(fragment.offset_and_flags);
		chain->id = fragment.id;
		chain->next = fragment.next;
		if (flags & IPV6_FRAGMENT_OFFSET)
			return CHAIN_LATER;
		/* Neither offset nor more: an atomic fragment, a whole packet (RFC 6946). */
		chain->first_fragment = flags & IPV6_MORE_FRAGMENTS;
	}
	return is_extension(chain->next) ? CHAIN_TOO_LONG : CHAIN_UPPER;
}

static __always_inline int walk(struct xdp_md *ctx, __u32 end, struct chain *chain, bool frags)
{
	struct cursor c;
	int reached;

	if (!chain)
		return CHAIN_CUT;
	cursor_init(&c, ctx, chain->at, end, frags);
	reached = follow_chain(&c, chain);
	chain->at = c.at;
	return reached;
}

/*
 * Global functions, which the verifier checks once, whatever the state at the call. Inlined into each place for each
 * offset, the loop would exceed its limit of a million instructions. Two, because only frags may use the newer helper.
 */
__attribute__((noinline)) int walk_chain(struct xdp_md *ctx, __u32 end, struct chain *chain)
{
	return walk(ctx, end, chain, false);
}

__attribute__((noinline)) int walk_chain_frags(struct xdp_md *ctx, __u32 end, struct chain *chain)
{
	return walk(ctx, end, chain, true);
}

/* Follows the chain that begins with protocol next at the cursor, and moves the cursor behind it. */
static __always_inline enum chain_end walk_extensions(struct cursor *c, __u8 next, struct chain *chain)
{
	enum chain_end end;

	*chain = (struct chain){ .at = c->at, .next = next };
	if (!is_extension(next))
		return CHAIN_UPPER;
	end = c->frags ? walk_chain_frags(c->ctx, c->end, chain) : walk_chain(c->ctx, c->end, chain);
	c->at = chain->at;
	return end;
}

#endif
