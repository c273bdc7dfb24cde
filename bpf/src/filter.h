/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Who may send to the listeners: the lists, and the limits on what a source prefix may send. */
#ifndef RINGROAD_FILTER_H
#define RINGROAD_FILTER_H

#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "constants.h"
#include "maps.h"
#include "parse.h"

static __always_inline enum listed look_up(const struct address *a, __u32 family)
{
	struct list_key key = { .family = family };
	enum listed *listed;
	__u32 zero = 0;
	void *list;

	list = bpf_map_lookup_elem(&lists, &zero);
	if (!list)
		return LISTED_NOT;
	if (family == FAMILY_IPV4) {
		key.bits = 32 + 32;
		key.word[0] = a->word[3];
	} else {
		key.bits = 32 + 128;
		key.word[0] = a->word[0];
		key.word[1] = a->word[1];
		key.word[2] = a->word[2];
		key.word[3] = a->word[3];
	}
	listed = bpf_map_lookup_elem(list, &key);
	return listed ? *listed : LISTED_NOT;
}

/*
 * Takes one from a bucket, or reports false. Who loses the race for the word every time shares it with so many others
 * that the limit is exceeded.
 */
static __always_inline bool take(__u64 *full_at, const struct rate *rate, __u64 now)
{
	for (int i = 0; i < BUCKET_TRIES; i++) {
		__u64 old = *(volatile __u64 *)full_at;
		__u64 at = old > now ? old : now;

		if (at - now > rate->ahead_ns)
			return false;
		if (__sync_val_compare_and_swap(full_at, old, at + rate->cost_ns) == old)
			return true;
	}
	return false;
}

static __always_inline enum verdict limit(const struct address *sender, __u32 family, bool opens)
{
	struct bucket *bucket;
	struct limits *limit;
	struct address key;
	__u32 zero = 0;
	void *buckets;
	__u64 now;

	limit = bpf_map_lookup_elem(&limits, &zero);
	buckets = bpf_map_lookup_elem(&sources, &zero);
	if (!limit || !buckets)
		return REDIRECT_LISTENER;
	opens = opens && limit->connections.cost_ns;
	if (!opens && !limit->packets.cost_ns)
		return REDIRECT_LISTENER;
	for (int i = 0; i < 4; i++)
		key.word[i] = sender->word[i] & limit->mask[family & 1].word[i];
	now = bpf_ktime_get_ns();
	bucket = bpf_map_lookup_elem(buckets, &key);
	if (!bucket) {
		struct bucket fresh = {
			.connections = opens ? now + limit->connections.cost_ns : 0,
			.packets = now + limit->packets.cost_ns,
		};

		bpf_map_update_elem(buckets, &key, &fresh, BPF_NOEXIST);
		return REDIRECT_LISTENER;
	}
	if (limit->packets.cost_ns && !take(&bucket->packets, &limit->packets, now))
		return DROP_PACKET_RATE;
	if (opens && !take(&bucket->connections, &limit->connections, now))
		return DROP_CONNECTION_RATE;
	return REDIRECT_LISTENER;
}

/*
 * The verdict on what sender sends in the flow from p->src to a listener; they differ in an ICMP error, which comes from
 * a router that no list needs to know. opens tells that it may open a connection. A global function, for the verifier.
 */
__attribute__((noinline)) int admit(struct packet *p, struct address *sender, int opens)
{
	if (!p || !sender)
		return DROP_DENIED;
	switch (look_up(&p->src.address, p->family)) {
	case LISTED_ALLOW:
		return REDIRECT_LISTENER;
	case LISTED_DENY:
		return DROP_DENIED;
	default:
		return limit(sender, p->family, opens);
	}
}

#endif
