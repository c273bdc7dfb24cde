// Package guest tests ringroad on the driver of a real network card, as root of the virtual machine of hack/vm and nowhere else: on a
// host it does nothing. The machine has two interfaces on one wire:
//
//	peer (a namespace)                    the machine itself
//	peer 10.9.0.2  ──────────────────── nut 10.9.0.1       the NIC under test
//	     fd09::2                              fd09::1
//	clients, backends                        ringroad
//
// So every frame of a client and of a backend comes in on the queue that the NIC itself chooses. What a test saw beside its verdict it
// tells as attributes, which hack/vm prints in its table.
package guest
