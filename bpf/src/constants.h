/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Numbers of the protocols, of the program, and the verdicts. */
#ifndef RINGROAD_CONSTANTS_H
#define RINGROAD_CONSTANTS_H

#include <linux/bpf.h>
#include <linux/types.h>

/* Protocol: EtherTypes (IEEE 802), protocol numbers (IANA), ICMP types (RFC 792, RFC 4443). */
#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_IPV6 0x86dd
#define ETHERTYPE_8021Q 0x8100
#define ETHERTYPE_8021AD 0x88a8

#define PROTO_HOP_BY_HOP 0
#define PROTO_ICMP 1
#define PROTO_TCP 6
#define PROTO_ROUTING 43
#define PROTO_FRAGMENT 44
#define PROTO_ICMPV6 58
#define PROTO_DEST_OPTIONS 60

#define IPV4_DONT_FRAGMENT 0x4000
#define IPV4_MORE_FRAGMENTS 0x2000
#define IPV4_FRAGMENT_OFFSET 0x1fff
#define IPV6_MORE_FRAGMENTS 0x0001
#define IPV6_FRAGMENT_OFFSET 0xfff8

#define ICMP_UNREACHABLE 3
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER_PROBLEM 12

#define ICMPV6_UNREACHABLE 1
#define ICMPV6_PACKET_TOO_BIG 2
#define ICMPV6_TIME_EXCEEDED 3
#define ICMPV6_PARAMETER_PROBLEM 4

#define TCP_SYN_ACK 0x12
#define TCP_OPTION_END 0
#define TCP_OPTION_NOP 1
#define TCP_OPTION_MSS 2

/* Of a SYN cookie, as cookie.go has it. */
#define COOKIE_STEP_NS 64000000000ULL
#define COOKIE_OUTER 0
#define COOKIE_INNER 1
#define COOKIE_DATA_BITS 24
#define COOKIE_DATA_MASK 0xffffff
#define COOKIE_MAX_AGE 2
#define COOKIE_VALUES 4

/* Tuning. */

/* Of answers: what netstack puts there. */
#define HOP_LIMIT 64

/* Options before the MSS of a SYN, which the stacks of this world put first. */
#define MAX_SYN_OPTIONS 8

/* 802.1ad has a service tag and a customer tag; nobody stacks more for one host. */
#define MAX_VLAN_TAGS 2

/* The four kinds that are followed, each twice: more than RFC 8200 4.1 recommends a sender to use. */
#define MAX_EXTENSION_HEADERS 8

/* The verifier follows a packet pointer plus an offset up to 65535. Eight extension headers of 2048 bytes stay below. */
#define MAX_OFFSET 0x7fff

/* First fragments remembered at a time. */
#define MAX_FRAGMENTS 8192

/*
 * Linux and netstack give up reassembly after 30 s (IPv4) or 60 s (IPv6). The fragments of a packet travel together, and
 * a 16-bit identification is soon used again: the shorter time serves both.
 */
#define FRAGMENT_LIFETIME_NS 30000000000ULL

/* The lowest bit of a first fragment's time says that the others pass the filter too. */
#define FRAGMENT_FILTER 1ULL

/* Capacities. A map holds the old and the new configuration for a moment, so each takes half as much. */
#define MAX_ADDRESSES 512
#define MAX_LISTENERS 2048
#define MAX_BACKENDS 8192

/*
 * Source prefixes whose rates are known at a time; the least recently used is forgotten first, and begins anew when it
 * comes back. They take 6 MB once a limit is set.
 */
#define MAX_SOURCES 65536

/* How often a CPU tries to take its turn at a bucket that others change at the same moment. */
#define BUCKET_TRIES 4

/*
 * What a CPU lets through a second, and at once, while there is a flood: SYNs that are seen for the first time, ACKs that
 * may bring a SYN cookie back, fragments, ICMP errors. To answer a SYN costs the worker 5 us, most of it sending; the stack
 * judges an ACK by two hashes, 2 us, and takes as many of the others (strangeLimit).
 */
#define FLOOD_SYNS 10000
#define FLOOD_SYNS_BURST 2000
#define FLOOD_ACKS 20000
#define FLOOD_ACKS_BURST 2000
#define FLOOD_FRAGMENTS 2000
#define FLOOD_FRAGMENTS_BURST 1000
#define FLOOD_ERRORS 2000
#define FLOOD_ERRORS_BURST 1000

/* CPUs that count by themselves; more share. A power of two. */
#define FLOOD_CPUS 256

/* A slot of the flow table has a byte for each worker: at most so many. */
#define MAX_FLOW_BYTES 256

/*
 * Sets of five SYNs that are remembered: at 400,000 a second 98 of 100 are still there after one second. They take 2 MB: a
 * flood looks at all of them, and with twice as much it waits for memory.
 */
#define SYN_SETS (1 << 18)

/* One byte for each port of each family says which look-ups a segment to that port is worth. */
#define FAMILY_IPV4 0
#define FAMILY_IPV6 1
#define PORT_ROLES (2 << 16)

enum port_role {
	ROLE_LISTEN_ANY = 1, /* a listener on every own address of the family */
	ROLE_LISTEN_ONE = 2, /* a listener on some own address: look in listeners */
	ROLE_BACKEND = 4,    /* a local port of backend connections: look in backends */
	ROLE_FILTER = 8,     /* what comes for a listener passes the lists and the limits first */
} __attribute__((packed));

/* How SYNs are answered here, if at all. */
enum answer {
	ANSWER_NOT,
	ANSWER_TX,
	ANSWER_REDIRECT, /* to the interface that they came from: veth forgets to wake its other end for XDP_TX (veth_xdp_flush) */
};

/* What the lists say of an address. */
enum listed {
	LISTED_NOT,
	LISTED_ALLOW,
	LISTED_DENY,
} __attribute__((packed));

/*
 * The verdict on a frame, and its counter. The order is the action: up to LAST_REDIRECT the frame goes to the socket,
 * up to LAST_DROP it is dropped, ANSWER_SYN_COOKIE is sent back, the rest passes to the kernel. The Go table in verdict.go documents each.
 */
enum verdict {
	REDIRECT_LISTENER,
	REDIRECT_BACKEND,
	REDIRECT_FRAGMENT,
	REDIRECT_ICMP,
	LAST_REDIRECT = REDIRECT_ICMP,
	DROP_NO_SOCKET,
	DROP_TINY_FRAGMENT,
	DROP_HEADER_CHAIN,
	DROP_DENIED,
	DROP_CONNECTION_RATE,
	DROP_PACKET_RATE,
	DROP_FIRST_SYN,
	DROP_STRAY_ACK,
	DROP_STRAY,
	DROP_STRAY_FRAGMENT,
	DROP_STRAY_ICMP,
	LAST_DROP = DROP_STRAY_ICMP,
	ANSWER_SYN_COOKIE,
	PASS_GROUP_MAC,
	PASS_VLAN_DEPTH,
	PASS_NOT_IP,
	PASS_MALFORMED,
	PASS_OTHER_ADDRESS,
	PASS_NOT_TCP,
	PASS_OTHER_PORT,
	PASS_ICMP,
	PASS_SOURCE_ROUTED,
	PASS_UNKNOWN_FRAGMENT,
	NUM_VERDICTS,
};

#endif
