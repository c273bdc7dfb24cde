/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is steered (written by Configure), the sockets (SetSocket), fragments seen, and the counters. */
#ifndef RINGROAD_MAPS_H
#define RINGROAD_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "constants.h"

/* An IPv6 address, or an IPv4 address as ::ffff:a.b.c.d (RFC 4291 2.5.5.2), in network byte order. */
struct address {
	__be32 word[4];
};

/* A TCP end point. zero keeps the key free of padding with undefined contents. */
struct endpoint {
	struct address address;
	__be16 port;
	__u16 zero;
};

/* What names a fragmented packet (RFC 791 2.3, RFC 8200 4.5). In IPv4 the protocol does too, but here it is always TCP. */
struct fragment {
	struct address src;
	struct address dst;
	__be32 id;
};

struct port_roles {
	enum port_role role[PORT_ROLES]; /* a set of bits, index family << 16 | port */
};

/* The AF_XDP socket of each receive queue. Load sets the size to the number of queues. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 1);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct address);
	__type(value, __u8);
	__uint(max_entries, 2 * MAX_ADDRESSES);
} addresses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct endpoint);
	__type(value, __u8);
	__uint(max_entries, 2 * MAX_LISTENERS);
} listeners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct endpoint);
	__type(value, __u8);
	__uint(max_entries, 2 * MAX_BACKENDS);
} backends SEC(".maps");

/* A single value, so that the program reaches a port's byte without a helper call and one system call replaces all. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct port_roles);
	__uint(max_entries, 1);
} ports SEC(".maps");

/* First fragments of our flows, with the time they were seen (CLOCK_MONOTONIC, ns). */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct fragment);
	__type(value, __u64);
	__uint(max_entries, MAX_FRAGMENTS);
} fragments SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, enum verdict);
	__type(value, __u64);
	__uint(max_entries, NUM_VERDICTS);
} verdicts SEC(".maps");

#endif
