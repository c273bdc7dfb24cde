#include "textflag.h"

// Words of 64 bits are added as they are, and their upper halves once more by themselves: what is lost by overflows can be
// told from these, at the end. So 32 bytes take three instructions besides the load. Y0 has the words of even vectors, modulo
// 2^64, and Y1 their upper halves; Y2 and Y3 the same of odd ones.
#define CLEAR \
	VPXOR Y0, Y0, Y0; \
	VPXOR Y1, Y1, Y1; \
	VPXOR Y2, Y2, Y2; \
	VPXOR Y3, Y3, Y3

// ADD adds Y4 and Y5.
#define ADD \
	VPADDQ Y4, Y0, Y0;  \
	VPADDQ Y5, Y2, Y2;  \
	VPSRLQ $32, Y4, Y4; \
	VPSRLQ $32, Y5, Y5; \
	VPADDQ Y4, Y1, Y1;  \
	VPADDQ Y5, Y3, Y3

// TOTAL is the sum, in AX: first of the lower halves, then of both.
#define TOTAL \
	VPADDQ       Y2, Y0, Y0;    \
	VPADDQ       Y3, Y1, Y1;    \
	VPSLLQ       $32, Y1, Y2;   \
	VPSUBQ       Y2, Y0, Y0;    \
	VPADDQ       Y1, Y0, Y0;    \
	VEXTRACTI128 $1, Y0, X1;    \
	VPADDQ       X1, X0, X0;    \
	VPSHUFD      $0xee, X0, X1; \
	VPADDQ       X1, X0, X0;    \
	VMOVQ        X0, AX;        \
	VZEROUPPER

// func sumBlocks(p *byte, n int) uint64
TEXT ·sumBlocks(SB), NOSPLIT, $0-24
	MOVQ  p+0(FP), SI
	MOVQ  n+8(FP), CX
	CLEAR

block:
	VMOVDQU (SI), Y4
	VMOVDQU 32(SI), Y5
	ADD
	ADDQ    $64, SI
	DECQ    CX
	JNZ     block

	TOTAL
	MOVQ         AX, ret+16(FP)
	RET

// PREFETCHW2K is PREFETCHW 2048(DI), which the assembler does not know: bytes are written to memory that is long in coming, as the
// kernel had it last or it was not used for long, and what is written next lies behind it, or in the next frame. Processors
// that do not know it either do nothing.
#define PREFETCHW2K \
	BYTE $0x0f; BYTE $0x0d; BYTE $0x8f; LONG $2048

// func copyBlocks(to, from *byte, n int) uint64
TEXT ·copyBlocks(SB), NOSPLIT, $0-32
	MOVQ  to+0(FP), DI
	MOVQ  from+8(FP), SI
	MOVQ  n+16(FP), CX
	CLEAR

block:
	PREFETCHW2K
	VMOVDQU (SI), Y4
	VMOVDQU 32(SI), Y5
	VMOVDQU Y4, (DI)
	VMOVDQU Y5, 32(DI)
	ADD
	ADDQ    $64, SI
	ADDQ    $64, DI
	DECQ    CX
	JNZ     block

	TOTAL
	MOVQ         AX, ret+24(FP)
	RET
