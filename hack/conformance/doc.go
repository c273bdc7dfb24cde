// Package conformance drives the whole worker with HTTP that is malformed,
// ambiguous, cut into pieces, slow, or answered by a backend that misbehaves, and
// checks what comes out on both sides. Everything is real but the wires: the
// bytes pass the user-space TCP of package stack on the in-memory network of
// stacktest.
//
//	client ── bytes in any delivery ──► worker ── canonical requests ──► witness
//
// The witness (witness_test.go) is a backend that records what it receives and
// reads it with a strict parser (strict_test.go), which was written from RFC 9112
// and has nothing in common with package http1. A trial (trial_test.go) is one
// delivery of one sample, and checks on every sample, whatever it is about:
//
//  1. The answers are those to the requests that the witness saw, and own errors;
//     none twice, lost or out of order.
//  2. Bytes of one request never become another.
//  3. What is forwarded is strictly conformant and canonical.
//  4. After an own error the connection closes and the error can be read.
//  5. Afterwards a fresh connection and one that was already open get their own
//     answers.
//  6. Nothing hangs.
//  7. The worker lives, and its connections, buffers and frames are back where they
//     were.
//  8. One sample has one outcome, whatever the delivery.
//
// The samples are the public suites' cases (public_test.go) and systematic ones
// (samples_*_test.go). Misbehaving backends, retries, early answers and slow peers
// have tests of their own.
//
// Not done here: what a single layer can show about itself, the kernel's own TCP
// and real programs as peers (package e2e), and speed (package bench).
package conformance
