// Package sandbox takes from a worker process everything that it does not need
// to move packets between descriptors that it already holds.
//
// A worker starts as root, because its sockets need it, and then calls [Enter]
// once. From then on, on every thread of the process and on those to come,
//
//	it runs as an unprivileged user in no group
//	it has no capability, and no way to get one (bounding set, no_new_privs)
//	it dies with its master
//	it can make only the system calls of policy.go: it opens no file, starts no
//	program, makes no socket but netlink's, signals no other process
//
// What is needed later must therefore be open before, or come from the master
// through a socket: log files, shared memory, the sockets of new queues. Things
// that the standard library reads from files when they are first used must have
// been used before: Enter sees to time.Local; users, hosts and interfaces
// (os/user, net) are the master's business.
//
// All of it is per thread in the kernel. Go can change every thread of a process
// only when no C code is linked in, so a worker is built with CGO_ENABLED=0; in
// other builds [Enter] and [Pin] answer [ErrCgo].
package sandbox
