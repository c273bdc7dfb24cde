package lab

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"time"
)

const (
	icmpEcho, icmpEchoReply     = 8, 0
	icmpv6Echo, icmpv6EchoReply = 128, 129
)

// Ping sends one ICMP or ICMPv6 echo request from the namespace and waits for the reply, for at most the given time.
func (n *Namespace) Ping(to netip.Addr, limit time.Duration) error {
	network, request, reply := "ip4:icmp", byte(icmpEcho), byte(icmpEchoReply)
	if to.Is6() {
		network, request, reply = "ip6:ipv6-icmp", icmpv6Echo, icmpv6EchoReply
	}
	var c net.PacketConn
	err := n.Do(func() (err error) {
		c, err = net.ListenPacket(network, "")
		return err
	})
	if err != nil {
		return fmt.Errorf("open ICMP socket in %s: %w", n.Name, err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	// Identifier, sequence number and data, which the reply repeats.
	rest := binary.BigEndian.AppendUint64([]byte{0x52, 0x52, 0, 1}, uint64(time.Now().UnixNano()))
	message := append([]byte{request, 0, 0, 0}, rest...)
	binary.BigEndian.PutUint16(message[2:], onesComplement(message)) // of ICMPv6 the kernel fills it in
	if _, err := c.WriteTo(message, &net.IPAddr{IP: to.AsSlice()}); err != nil {
		return fmt.Errorf("ping %v from %s: %w", to, n.Name, err)
	}
	b := make([]byte, 1500)
	for {
		l, _, err := c.ReadFrom(b)
		if err != nil {
			return fmt.Errorf("ping %v from %s: %w", to, n.Name, err)
		}
		if l == len(message) && b[0] == reply && bytes.Equal(b[4:l], rest) {
			return nil
		}
	}
}

// onesComplement is the checksum of RFC 1071 over an even number of bytes.
func onesComplement(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
