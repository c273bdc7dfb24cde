package checksum

import "golang.org/x/sys/cpu"

// hasBlocks: there is sumBlocks.
var hasBlocks = cpu.X86.HasAVX2

// sumBlocks is the sum of the 32-bit little-endian words of n blocks from p on, at most 2^29 of them. n must not be 0.
//
//go:noescape
func sumBlocks(p *byte, n int) uint64

// copyBlocks copies n blocks from from to to, which do not overlap, and is sumBlocks of them.
//
//go:noescape
func copyBlocks(to, from *byte, n int) uint64
