// Package failure brings the failures that a proxy meets about in a lab, one at a time, and shows by what they are known.
//
// A [Scenario] says what fails, with which configuration, which counters must move and which buffers must be full, what a user sees
// with which command, and who has to wait. The same scenario is shown by the command (hack/fail) and is an end-to-end test
// (hack/e2e). [Run] plays one:
//
//  1. ringroad serves. A bystander asks on and on over a connection of its own, to another listener.
//  2. The failure is brought about (Scenario.Play). Stage.Broken waits until all that tells of it is there, and until the bystander was
//     answered some more, unless the failure stops everybody.
//  3. The cause is taken away, and the listener that suffered answers again.
//  4. Everybody leaves. Then no connection, exchange, buffer or frame is left anywhere, the bystander has had an answer to every
//     request, and of the counters that tell of failures (alarms) those of the scenario have moved and no other.
//
// # The places
//
// Clients come to two listeners: beside, which leads to nginx, and door, which leads to a backend that behaves as told
// (backend.go). The counters are read from the admin endpoint, under the names that a monitor knows them by.
package failure
