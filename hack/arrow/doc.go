// Package arrow holds the test that the packages of this module import each other in one direction only,
//
//	cmd -> proxy -> stack -> dataplane -> bpf
//
// and that what talks to the kernel or to netstack stays in the layers made for it. The linter checks the same (.golangci.yaml);
// this test needs nothing but the go command.
package arrow
