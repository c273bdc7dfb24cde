// Package tui shows the buffers of a running ringroad on a terminal: a column for
// each worker, a row for each buffer in the order in which a request passes them,
// and below them the rates.
//
// Another view lists the client connections (list.go, connections.go).
//
// A [Source] gives readings; reading.go says what two of them mean (levels, and how
// far counters moved in between), rows.go which rows there are, screen.go lays them
// out as text, and model.go lets keys and a clock act on that. Everything but
// model.go is plain text and arithmetic. The screen is ASCII, and says with signs
// what it also says with styles:
//
//	[####......] 1638/4096 ^2100 !12     level, capacity, high-water mark, times full
//	[##########] 4096/4096 ^4096 !+3     three of these since the last reading
package tui
