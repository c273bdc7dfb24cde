package config

import "strings"

// nearest returns the word that text was probably meant to be, "" when none is
// near: the same but for case, "-" and "_", or a few slips of the finger away.
func nearest(text string, words []string) string {
	text = strings.ToLower(text)
	best, least := "", max(1, len(text)/3)+1
	bare := strip(text)
	for _, w := range words {
		if strip(w) == bare {
			return w
		}
		if d := distance(text, w); d < least {
			best, least = w, d
		}
	}
	return best
}

func strip(s string) string {
	return strings.NewReplacer("-", "", "_", "", " ", "").Replace(strings.ToLower(s))
}

// distance counts the insertions, deletions, substitutions and swaps of
// neighbours that make b of a (optimal string alignment).
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return max(len(a), len(b)) // nothing so long was mistyped
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
