/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Chooses the transmit queue of a frame as the NIC at the other end of the wire would choose its receive queue: by the Toeplitz hash of
 * addresses and ports and an indirection table. A veth delivers to the receive queue of the same number.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/types.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* enum tcx_action_base of linux/bpf.h, which Debian 12's is too old for: the next program, then the kernel. */
#define TCX_NEXT -1

#define IPV4_FRAGMENT 0x3fff /* more fragments, or an offset */

/* Two IPv6 addresses and two ports. */
#define MAX_INPUT_BYTES 36
#define TABLE_ENTRIES 128

/*
 * The hash is linear over GF(2): it is the xor of what each byte of the input contributes at its place. rss.go computes that from
 * the key, so that a frame costs a look-up a byte.
 */
struct nic {
	__u32 contribution[MAX_INPUT_BYTES][256];
	__u32 table[TABLE_ENTRIES];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct nic);
	__uint(max_entries, 1);
} nics SEC(".maps");

/* The bytes to hash, as they are in the packet. */
struct input {
	__u8 byte[MAX_INPUT_BYTES];
} __attribute__((aligned(4)));

/* Adds the ports. A packet too short for them is hashed by its addresses. */
static __always_inline __u32 add_ports(struct __sk_buff *skb, __u32 at, struct input *in, __u32 bytes)
{
	return bpf_skb_load_bytes(skb, at, in->byte + bytes, 4) ? bytes : bytes + 4;
}

/*
 * Returns the number of bytes to hash, 0 if the packet is none of IP. As a NIC does that is set up for TCP, fragments and what is
 * not TCP go by their addresses alone; so does TCP behind an IPv6 extension header, which NICs treat in different ways.
 */
static __always_inline __u32 fill_input(struct __sk_buff *skb, struct input *in)
{
	const __u32 start = sizeof(struct ethhdr);
	__be16 type;
	struct iphdr ip4;
	__u8 next;

	if (bpf_skb_load_bytes(skb, offsetof(struct ethhdr, h_proto), &type, sizeof(type)))
		return 0;
	if (type == bpf_htons(ETH_P_IP)) {
		if (bpf_skb_load_bytes(skb, start, &ip4, sizeof(ip4)))
			return 0;
		__builtin_memcpy(in->byte, &ip4.saddr, 4);
		__builtin_memcpy(in->byte + 4, &ip4.daddr, 4);
		if (ip4.protocol != IPPROTO_TCP || ip4.frag_off & bpf_htons(IPV4_FRAGMENT))
			return 8;
		return add_ports(skb, start + ip4.ihl * 4, in, 8);
	}
	if (type == bpf_htons(ETH_P_IPV6)) {
		if (bpf_skb_load_bytes(skb, start + offsetof(struct ipv6hdr, nexthdr), &next, sizeof(next)) ||
		    bpf_skb_load_bytes(skb, start + offsetof(struct ipv6hdr, saddr), in->byte, 32))
			return 0;
		return next == IPPROTO_TCP ? add_ports(skb, start + sizeof(struct ipv6hdr), in, 32) : 32;
	}
	return 0;
}

SEC("tcx/egress")
int ringroad_rss(struct __sk_buff *skb)
{
	struct input in = {};
	__u32 zero = 0, hash = 0, bytes;
	struct nic *nic;

	nic = bpf_map_lookup_elem(&nics, &zero);
	bytes = fill_input(skb, &in);
	if (!nic || !bytes)
		return TCX_NEXT;
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < MAX_INPUT_BYTES && i < bytes; i++)
		hash ^= nic->contribution[i][in.byte[i]];
	/* Of a frame to send this is the receive queue it came in on, plus one; skb_tx_hash sends on the same. */
	skb->queue_mapping = nic->table[hash % TABLE_ENTRIES] + 1;
	return TCX_NEXT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
