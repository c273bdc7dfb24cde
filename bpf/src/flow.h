/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which packets are ours: look-ups in what Configure wrote, and the memory for fragments. */
#ifndef RINGROAD_FLOW_H
#define RINGROAD_FLOW_H

#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "constants.h"
#include "filter.h"
#include "flood.h"
#include "maps.h"
#include "parse.h"

static __always_inline bool is_own(const struct address *a)
{
	return bpf_map_lookup_elem(&addresses, a) != NULL;
}

static __always_inline bool is_redirect(enum verdict v)
{
	return v <= LAST_REDIRECT;
}

/* The verdict on a segment whose destination address is already known to be own. */
static __always_inline enum verdict flow_verdict(struct packet *p)
{
	struct port_roles *roles;
	__u32 index, zero = 0;
	__u8 role;

	roles = bpf_map_lookup_elem(&ports, &zero);
	if (!roles)
		return PASS_OTHER_PORT;
	index = (p->family & 1) << 16 | bpf_ntohs(p->dst.port);
	/* To the verifier of older kernels (6.12) swapped bytes may be any number; clang would leave the mask out. */
	barrier_var(index);
	role = roles->role[index & (PORT_ROLES - 1)];
	if (role & ROLE_LISTEN_ANY || (role & ROLE_LISTEN_ONE && bpf_map_lookup_elem(&listeners, &p->dst))) {
		p->filter = role & ROLE_FILTER;
		return REDIRECT_LISTENER;
	}
	if (role & ROLE_BACKEND && bpf_map_lookup_elem(&backends, &p->src))
		return REDIRECT_BACKEND;
	return PASS_OTHER_PORT;
}

static __always_inline void fragment_key(struct fragment *key, const struct packet *p, __be32 id)
{
	key->src = p->src.address;
	key->dst = p->dst.address;
	key->id = id;
}

/* The verdict on a TCP packet; opens tells that it may open a connection. */
static __always_inline enum verdict packet_verdict(struct packet *p, enum kind kind, bool opens)
{
	enum verdict v = flow_verdict(p);

	if (is_redirect(v))
		v = in_flood(p, kind, v);
	return p->filter && is_redirect(v) ? admit(p, &p->src.address, opens) : v;
}

/*
 * Remembers or forgets a first fragment, given the verdict on its flow. Forgetting matters: the sender may reuse the
 * identification for a flow of the kernel's, whose later fragments must not follow the older packet.
 */
static __always_inline enum verdict first_fragment(const struct fragment *key, const struct packet *p, enum verdict v)
{
	__u64 seen;

	if (!is_redirect(v)) {
		/* Looking first spares a flood the lock of the bucket. */
		if (bpf_map_lookup_elem(&fragments, key))
			bpf_map_delete_elem(&fragments, key);
		return v;
	}
	seen = (bpf_ktime_get_ns() & ~FRAGMENT_FILTER) | (p->filter ? FRAGMENT_FILTER : 0);
	bpf_map_update_elem(&fragments, key, &seen, BPF_ANY);
	return REDIRECT_FRAGMENT;
}

/*
 * An unknown fragment is of a flow of the kernel's, or overtook its first. Passing is right for both: in the second case
 * the kernel never sees the first, so it can neither complete the packet nor answer it, and TCP sends it again.
 */
static __always_inline enum verdict later_fragment(const struct fragment *key, struct packet *p)
{
	__u64 *seen = bpf_map_lookup_elem(&fragments, key);
	enum verdict v = REDIRECT_FRAGMENT;

	if (!seen || bpf_ktime_get_ns() - *seen >= FRAGMENT_LIFETIME_NS)
		return PASS_UNKNOWN_FRAGMENT;
	if (*seen & FRAGMENT_FILTER)
		v = admit(p, &p->src.address, false);
	return is_redirect(v) ? in_flood(p, KIND_LATER_FRAGMENT, REDIRECT_FRAGMENT) : v;
}

#endif
