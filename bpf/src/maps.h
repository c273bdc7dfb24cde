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

/*
 * A prefix of the lists. The families do not mix: ::/0 has no IPv4 address in it. bits counts the family too.
 */
struct list_key {
	__u32 bits;
	__u32 family; /* FAMILY_IPV4 or FAMILY_IPV6 */
	__be32 word[4];
};

/*
 * When the bucket of a source prefix is full again (CLOCK_MONOTONIC, ns), for each limit: the generic cell rate algorithm
 * (ITU-T I.371). It is a token bucket in one word, which CPUs change by compare-and-swap; an LRU map can hold no lock.
 */
struct bucket {
	__u64 connections;
	__u64 packets;
};

/* A limit, as times: what one of the thing costs, and how far ahead of time a bucket may be. cost 0: no limit. */
struct rate {
	__u64 cost_ns;
	__u64 ahead_ns; /* burst - 1 times the cost */
};

struct limits {
	struct rate connections;
	struct rate packets;
	struct address mask[2]; /* by family: what of a source is its prefix */
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

/* First fragments of our flows, with the time they were seen (CLOCK_MONOTONIC, ns) and FRAGMENT_FILTER. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct fragment);
	__type(value, __u64);
	__uint(max_entries, MAX_FRAGMENTS);
} fragments SEC(".maps");

/*
 * The lists and the buckets are maps in a map, so that one is replaced as a whole between two packets, may have any size,
 * and takes no memory before it is configured. A longer prefix goes before a shorter one. Sizes, not types: clang writes
 * none of the types that only an inner map names.
 */
struct list {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(key_size, sizeof(struct list_key));
	__uint(value_size, sizeof(enum listed));
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
};

struct buckets {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(key_size, sizeof(struct address));
	__uint(value_size, sizeof(struct bucket));
	__uint(max_entries, MAX_SOURCES);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__type(key, __u32);
	__uint(max_entries, 1);
	__array(values, struct list);
} lists SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__type(key, __u32);
	__uint(max_entries, 1);
	__array(values, struct buckets);
} sources SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct limits);
	__uint(max_entries, 1);
} limits SEC(".maps");

/* SYN cookies. The master writes the settings. */
struct cookie_settings {
	__u64 key[2];
	__u32 answer; /* enum answer */
	__u16 window; /* of answers */
	__u16 mtu;    /* of the interface */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct cookie_settings);
	__uint(max_entries, 1);
} cookies SEC(".maps");

/*
 * Until when (CLOCK_MONOTONIC, ns) the SYNs of a receive queue are answered. A worker whose SYN queue is full writes it
 * in shared memory. Load sets the size to the number of queues.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
} answer_until SEC(".maps");

/* What one CPU has done in floods; a cache line. The times are those of buckets (CLOCK_MONOTONIC, ns). */
struct flood_cpu {
	__u64 refused;      /* packets */
	__u64 refused_syns; /* of them */
	__u64 syns;
	__u64 acks;
	__u64 fragments;
	__u64 errors;
	__u64 unused[2];
};

/*
 * Whether there is a flood of packets that belong to no connection. Workers say so through memory that they share with
 * the program, without a system call. Master writes key, mask, bytes and bits before the first worker starts.
 */
struct flood {
	__u64 until;  /* CLOCK_MONOTONIC, ns; 0: there is none */
	__u64 syns_until; /* likewise: until when SYNs are among them, more than workers can answer */
	__u64 key[2]; /* of the hash of flows: random, so that nobody can aim at a slot */
	__u32 mask;   /* slots less one */
	__u32 bytes;  /* of a slot: a power of two */
	__u64 bits;   /* of a word that the first byte of a slot is shifted down in: those of the slot */
	__u64 unused[2];
	struct flood_cpu cpu[FLOOD_CPUS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct flood);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
} flood SEC(".maps");

/*
 * The open connections of all workers: a slot is found by the hash of a flow, and is 0 if none of its connections is
 * open. Each worker has a byte of its own, so that it writes without a lock. A word has several slots of few workers, so
 * that the table stays in the cache while a flood looks at all of it. Load sets the size.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
} flows SEC(".maps");

/* The SYNs that were dropped last: five tags of 12 bits a set, the youngest lowest. CPUs race for a set and may lose one. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, SYN_SETS);
} syns SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, enum verdict);
	__type(value, __u64);
	__uint(max_entries, NUM_VERDICTS);
} verdicts SEC(".maps");

#endif
