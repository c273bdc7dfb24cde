/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Steers the frames of our TCP flows to the AF_XDP socket of the queue they came in on; all others pass to the kernel.
 * A frame of our flows that cannot be redirected is dropped: the kernel's TCP does not know the connection and would reset it.
 */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "answer.h"
#include "constants.h"
#include "cursor.h"
#include "flood.h"
#include "flow.h"
#include "maps.h"
#include "parse.h"

static __always_inline bool is_syn(const struct tcphdr *tcp)
{
	return tcp->syn && !tcp->ack;
}

/*
 * The ports must be there, the rest of the header need not: it may follow in the next fragment. A fragment without the
 * flags may hide a SYN.
 */
static __always_inline enum verdict tcp_first_fragment(struct cursor *c, struct packet *p)
{
	struct cursor whole = *c;
	struct tcp_ports ports;
	struct tcphdr tcp;

	if (!pull_ports(c, &ports))
		return DROP_TINY_FRAGMENT;
	p->src.port = ports.src;
	p->dst.port = ports.dst;
	return packet_verdict(p, KIND_FRAGMENT, !pull_tcp(&whole, &tcp) || is_syn(&tcp));
}

/* A segment shorter than a TCP header passes: the kernel discards it without an answer (tcp_v4_rcv). */
static __always_inline enum verdict tcp_segment(struct cursor *c, struct packet *p)
{
	struct tcphdr tcp;
	enum verdict v;

	if (!pull_tcp(c, &tcp))
		return PASS_MALFORMED;
	p->src.port = tcp.source;
	p->dst.port = tcp.dest;
	p->seq = bpf_ntohl(tcp.seq);
	p->ack = bpf_ntohl(tcp.ack_seq);
	v = packet_verdict(p, kind_of(&tcp), is_syn(&tcp));
	return v == REDIRECT_LISTENER && is_syn(&tcp) ? answer_syn(c, p, &tcp, v) : v;
}

/*
 * The quoted packet went out from the error's destination (RFC 792, RFC 4443 2.4), so the flow is looked up as if its
 * peer had sent the error: p->dst, which is own, with the quoted source port; p->src with the quoted destination.
 */
static __always_inline enum verdict quoted_flow(struct cursor *c, struct packet *p, struct address *sender)
{
	struct tcp_ports ports;
	enum verdict v;

	if (!pull_ports(c, &ports))
		return PASS_ICMP;
	p->dst.port = ports.src;
	p->src.port = ports.dst;
	if (!is_redirect(flow_verdict(p)))
		return PASS_ICMP;
	if (p->filter) {
		v = admit(p, sender, false);
		if (!is_redirect(v))
			return v;
	}
	return in_flood(p, KIND_ERROR, REDIRECT_ICMP);
}

static __always_inline enum verdict icmp(struct cursor *c, struct packet *p)
{
	struct address sender = p->src.address;
	struct icmp icmp;
	struct iphdr quoted;
	__u32 header_bytes;

	if (!pull_icmp(c, &icmp))
		return PASS_MALFORMED;
	if (icmp.type != ICMP_UNREACHABLE && icmp.type != ICMP_TIME_EXCEEDED && icmp.type != ICMP_PARAMETER_PROBLEM)
		return PASS_ICMP;
	if (!pull_ipv4(c, &quoted))
		return PASS_ICMP;
	header_bytes = ipv4_header_bytes(&quoted);
	if (!header_bytes || quoted.protocol != PROTO_TCP || quoted.frag_off & bpf_htons(IPV4_FRAGMENT_OFFSET))
		return PASS_ICMP;
	if (quoted.saddr != p->dst.address.word[3])
		return PASS_ICMP;
	set_ipv4(&p->src.address, quoted.daddr);
	c->at += header_bytes - sizeof(quoted);
	return quoted_flow(c, p, &sender);
}

static __always_inline enum verdict icmpv6(struct cursor *c, struct packet *p)
{
	struct address sender = p->src.address;
	struct chain chain;
	struct ipv6hdr quoted;
	struct address src;
	struct icmp icmp;

	if (!pull_icmp(c, &icmp))
		return PASS_MALFORMED;
	if (icmp.type < ICMPV6_UNREACHABLE || icmp.type > ICMPV6_PARAMETER_PROBLEM)
		return PASS_ICMP;
	if (!pull_ipv6(c, &quoted) || quoted.version != 6)
		return PASS_ICMP;
	set_ipv6(&src, &quoted.saddr);
	if (!same_address(&src, &p->dst.address))
		return PASS_ICMP;
	set_ipv6(&p->src.address, &quoted.daddr);
	if (is_ipv4_mapped(&p->src.address))
		return PASS_ICMP;
	if (walk_extensions(c, quoted.nexthdr, &chain) != CHAIN_UPPER || chain.next != PROTO_TCP)
		return PASS_ICMP;
	return quoted_flow(c, p, &sender);
}

static __always_inline enum verdict ipv4(struct cursor *c)
{
	struct packet p = { .family = FAMILY_IPV4 };
	__u32 start = c->at, header_bytes, total;
	struct fragment key;
	struct iphdr ip;
	__u16 fragment;

	if (!pull_ipv4(c, &ip))
		return PASS_MALFORMED;
	header_bytes = ipv4_header_bytes(&ip);
	total = bpf_ntohs(ip.tot_len);
	if (!header_bytes || total < header_bytes || start + total > c->end)
		return PASS_MALFORMED;
	c->at = start + header_bytes;
	c->end = start + total;
	set_ipv4(&p.dst.address, ip.daddr);
	if (!is_own(&p.dst.address))
		return PASS_OTHER_ADDRESS;
	set_ipv4(&p.src.address, ip.saddr);
	fragment = bpf_ntohs(ip.frag_off) & (IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET);

	/* An error is far too short to be fragmented by anyone honest; the kernel ignores it in the end. */
	if (ip.protocol == PROTO_ICMP)
		return fragment ? PASS_ICMP : icmp(c, &p);
	if (ip.protocol != PROTO_TCP)
		return PASS_NOT_TCP;
	if (!fragment)
		return tcp_segment(c, &p);
	fragment_key(&key, &p, ip.id);
	if (fragment & IPV4_FRAGMENT_OFFSET)
		return later_fragment(&key, &p);
	return first_fragment(&key, &p, tcp_first_fragment(c, &p));
}

static __always_inline enum verdict ipv6_upper(struct cursor *c, struct packet *p, const struct chain *chain)
{
	if (chain->next == PROTO_ICMPV6)
		return chain->first_fragment ? PASS_ICMP : icmpv6(c, p);
	if (chain->next != PROTO_TCP)
		return PASS_NOT_TCP;
	return chain->first_fragment ? tcp_first_fragment(c, p) : tcp_segment(c, p);
}

static __always_inline enum verdict ipv6(struct cursor *c)
{
	struct packet p = { .family = FAMILY_IPV6 };
	struct chain chain;
	struct fragment key;
	struct ipv6hdr ip;
	enum verdict v;

	if (!pull_ipv6(c, &ip) || ip.version != 6)
		return PASS_MALFORMED;
	if (c->at + bpf_ntohs(ip.payload_len) > c->end)
		return PASS_MALFORMED;
	c->end = c->at + bpf_ntohs(ip.payload_len);
	set_ipv6(&p.src.address, &ip.saddr);
	set_ipv6(&p.dst.address, &ip.daddr);
	if (is_ipv4_mapped(&p.src.address) || is_ipv4_mapped(&p.dst.address))
		return PASS_MALFORMED;
	if (!is_own(&p.dst.address))
		return PASS_OTHER_ADDRESS;

	switch (walk_extensions(c, ip.nexthdr, &chain)) {
	case CHAIN_UPPER:
		v = ipv6_upper(c, &p, &chain);
		break;
	case CHAIN_LATER:
		fragment_key(&key, &p, chain.id);
		return later_fragment(&key, &p);
	case CHAIN_CUT:
		/* RFC 8200 4.5: a first fragment holds all headers. Whole and cut, the packet is nobody's. */
		v = chain.first_fragment ? DROP_TINY_FRAGMENT : PASS_MALFORMED;
		break;
	case CHAIN_ROUTED:
		v = PASS_SOURCE_ROUTED;
		break;
	default:
		/* The kernel follows any number of headers and may find one of our flows behind them. */
		v = DROP_HEADER_CHAIN;
		break;
	}
	if (!chain.first_fragment)
		return v;
	fragment_key(&key, &p, chain.id);
	return first_fragment(&key, &p, v);
}

static __always_inline enum verdict decide(struct xdp_md *ctx, bool frags)
{
	struct ethernet ethernet;
	struct vlan_tag tag;
	struct cursor c;
	__be16 type;

	cursor_init(&c, ctx, 0, frame_bytes(ctx, frags), frags);
	if (!pull_ethernet(&c, &ethernet))
		return PASS_MALFORMED;
	if (ethernet.dst[0] & 1)
		return PASS_GROUP_MAC;
	type = ethernet.type;
	for (int i = 0; i < MAX_VLAN_TAGS && is_vlan(type); i++) {
		if (!pull_vlan_tag(&c, &tag))
			return PASS_MALFORMED;
		type = tag.type;
	}
	if (type == bpf_htons(ETHERTYPE_IPV4))
		return ipv4(&c);
	if (type == bpf_htons(ETHERTYPE_IPV6))
		return ipv6(&c);
	return is_vlan(type) ? PASS_VLAN_DEPTH : PASS_NOT_IP;
}

/* bpf_redirect_map looks the socket up and answers with its flags if there is none, so no frame is counted wrongly. */
static __always_inline int act(struct xdp_md *ctx, enum verdict v)
{
	int action = XDP_PASS;
	__u64 *frames;

	if (is_redirect(v)) {
		action = bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_DROP);
		if (action != XDP_REDIRECT)
			v = DROP_NO_SOCKET;
	} else if (v <= LAST_DROP) {
		action = XDP_DROP;
	} else if (v == ANSWER_SYN_COOKIE) {
		action = send_back(ctx);
	}
	frames = bpf_map_lookup_elem(&verdicts, &v);
	if (frames)
		++*frames;
	return action;
}

/* A frame in one buffer. */
SEC("xdp")
int ringroad_steer(struct xdp_md *ctx)
{
	return act(ctx, decide(ctx, false));
}

/* A frame in one or several buffers, for an MTU above one page. */
SEC("xdp.frags")
int ringroad_frags(struct xdp_md *ctx)
{
	return act(ctx, decide(ctx, true));
}

/* The kernel keeps some helpers for GPL-compatible programs: bpf_ktime_get_ns before Linux 5.8. */
char _license[] SEC("license") = "Dual BSD/GPL";
