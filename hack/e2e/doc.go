// Package e2e tests ringroad as its users have it: the built binary on real links, between real clients and a real nginx, in the
// namespaces of package lab.
//
// The package builds the binary and makes one lab for all its tests (main_test.go); every test starts ringroad anew in the edge with
// a configuration of its own. Tests with lossy wires make a lab of their own; those that mostly wait run two at a time, behind all others.
// The tests need root and the programs that `make test` installs.
//
// The table of clients (clients_test.go) says what each of the programs and libraries that people use can do, and has it done. What
// ringroad uses is measured over its process and all descendants (lab.Process).
//
// With RINGROAD_E2E_LONG=1 TestLargeBodiesTakeBoundedMemory moves 10 GB each way, which takes minutes.
package e2e
