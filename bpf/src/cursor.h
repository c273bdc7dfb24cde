/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A bounds-checked cursor over a frame: each pull_ function checks, copies one header and moves past it, or fails. */
#ifndef RINGROAD_CURSOR_H
#define RINGROAD_CURSOR_H

#include <linux/bpf.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

#include "constants.h"

struct cursor {
	struct xdp_md *ctx;
	void *data;
	void *data_end; /* end of the directly readable part: of the frame, or of its first buffer if frags */
	__u32 at;       /* offset of the next header in the frame */
	__u32 end;      /* no header reaches beyond this offset: end of the frame, then end of the IP packet */
	bool frags;     /* the frame may be in several buffers; a constant in each program */
};

struct ethernet {
	__u8 dst[6];
	__u8 src[6];
	__be16 type;
};

struct vlan_tag {
	__be16 control;
	__be16 type;
};

/* The part that hop-by-hop, destination options and routing headers share; a routing header adds type and left. */
struct ipv6_extension {
	__u8 next;
	__u8 units; /* length in 8-byte units, the first not counted */
	__u8 routing_type;
	__u8 segments_left;
};

struct ipv6_fragment {
	__u8 next;
	__u8 reserved;
	__be16 offset_and_flags;
	__be32 id;
};

struct tcp_ports {
	__be16 src;
	__be16 dst;
};

struct icmp {
	__u8 type;
	__u8 code;
	__u16 checksum;
	__u32 parameter;
};

static __always_inline void cursor_init(struct cursor *c, struct xdp_md *ctx, __u32 at, __u32 end, bool frags)
{
	c->ctx = ctx;
	c->data = (void *)(long)ctx->data;
	c->data_end = (void *)(long)ctx->data_end;
	c->at = at;
	c->end = end;
	c->frags = frags;
}

static __always_inline __u32 frame_bytes(struct xdp_md *ctx, bool frags)
{
	return frags ? bpf_xdp_get_buff_len(ctx) : ctx->data_end - ctx->data;
}

/*
 * A driver may put as little as it likes into the first buffer (mlx5's striding receive queue: nothing), so what is not
 * directly readable is fetched by the kernel. A typed copy keeps the natural alignment, without which clang reads bytes.
 * The verifier of older kernels (6.1) forgets what is known of a number that was kept on the stack; the mask tells it again.
 */
#define DEFINE_PULL(name, type)                                                              \
	static __always_inline bool name(struct cursor *c, type *to)                         \
	{                                                                                    \
		__u32 at = c->at;                                                            \
		type *from;                                                                  \
                                                                                             \
		if (at > MAX_OFFSET || at + sizeof(*to) > c->end)                            \
			return false;                                                        \
		barrier_var(at);                                                             \
		from = c->data + (at & MAX_OFFSET);                                          \
		if ((void *)(from + 1) <= c->data_end)                                       \
			*to = *from;                                                         \
		else if (!c->frags || bpf_xdp_load_bytes(c->ctx, at, to, sizeof(*to)))       \
			return false;                                                        \
		c->at = at + sizeof(*to);                                                    \
		return true;                                                                 \
	}

DEFINE_PULL(pull_ethernet, struct ethernet)
DEFINE_PULL(pull_vlan_tag, struct vlan_tag)
DEFINE_PULL(pull_ipv4, struct iphdr)
DEFINE_PULL(pull_ipv6, struct ipv6hdr)
DEFINE_PULL(pull_extension, struct ipv6_extension)
DEFINE_PULL(pull_fragment, struct ipv6_fragment)
DEFINE_PULL(pull_icmp, struct icmp)
DEFINE_PULL(pull_tcp, struct tcphdr)
DEFINE_PULL(pull_ports, struct tcp_ports)

#endif
