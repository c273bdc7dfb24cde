// Package upstream chooses a backend for a request and keeps the idle
// connections to it.
//
// # Flow
//
//  1. [Group.Pick] takes the next server in turn, [Group.After] the one to try
//     when a connection to the last one could not be made.
//  2. [Server.Take] hands out the idle connection that was used last; without
//     one the caller connects.
//  3. After a clean end [Server.Put] makes the connection idle again. The caller
//     still gets its events: data or an end on an idle connection must lead to
//     [Server.Remove], because it cannot carry another request.
//  4. A reload makes a group another one with [Group.Update]; servers that stay
//     keep their connections.
//
// # Ownership
//
// All of it belongs to the one goroutine of a worker, and workers share
// nothing. The package knows no sockets: a [Conn] is a link that the owner of
// the real connection embeds. Time is handed down.
//
// # What is not done
//
// No active health checks and no weights. Nothing here closes a connection or
// runs a timer: the caller does both.
package upstream
