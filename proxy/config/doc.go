// Package config reads, checks and documents the configuration of ringroad.
//
// One table (table.go) lists every key with its type, unit, default, range,
// flag, whether a reload can change it, and the reason for the default. The
// parser, the validation, the flags and the reference in README.md are all made
// from that table, so they cannot say different things.
//
// # Way of a configuration
//
//  1. Default fills a Config from the defaults of the table.
//  2. Parse walks the nodes of a YAML document, Flags.Load the values of the
//     flags; both put each value through the type of its key.
//  3. Validate checks ranges, references and what keys demand of one another.
//
// Nothing stops at the first mistake: the error of all three is an Errors with
// every problem in the order of the document, each with line, column, key path
// and, where there is one, the nearest valid key or value.
//
// # Ownership
//
// A Config is not changed after it was made. It holds no files and no sockets
// and is read without locks; a reload makes a new one.
//
// # What is not done
//
// Nothing here looks at the host: whether an interface exists, an address is
// its own or a port is free is found out by the layers that use them. Names of
// hosts are not resolved.
package config
