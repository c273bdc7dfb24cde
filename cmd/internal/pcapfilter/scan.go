package pcapfilter

import (
	"fmt"
	"strings"
)

// token is a word, an operator or the end of an expression.
type token struct {
	text string // "": the end
	at   int    // byte of the expression
}

// operators, the longer ones first.
var operators = []string{"&&", "||", "<<", ">>", "==", "!=", "<=", ">=", "(", ")", "!", "<", ">", "=", "[", "]", "+", "-", "*", "/", "%", "&", "|", "^", ":"}

// Error is a mistake in an expression.
type Error struct {
	At   int // byte of the expression, from 0
	Text string
}

func (e *Error) Error() string { return fmt.Sprintf("filter: column %d: %s", e.At+1, e.Text) }

func (t token) wrong(format string, args ...any) *Error {
	return &Error{At: t.at, Text: fmt.Sprintf(format, args...)}
}

// String is the token as messages quote it.
func (t token) String() string {
	if t.text == "" {
		return "the end"
	}
	return fmt.Sprintf("%q", t.text)
}

// wordBytes are in words beside letters and digits. Whether a '-', '/' or ':' belongs
// to a word depends on where it stands: see scan.
const wordBytes = "._-/:"

// scan takes an expression apart. Within brackets and after an operator of
// arithmetic, numbers end at - / and :, elsewhere these belong to names,
// networks and addresses.
func scan(expression string) (tokens []token) {
	depth := 0
	for i := 0; i < len(expression); {
		switch c := expression[i]; {
		case strings.ContainsRune(" \t\r\n", rune(c)):
			i++
			continue
		case isWord(c):
			end := i + 1
			for end < len(expression) && (isWord(expression[end]) || depth == 0 && strings.IndexByte(wordBytes, expression[end]) >= 0 ||
				expression[end] == '-' && isLetter(c)) {
				end++
			}
			tokens = append(tokens, token{expression[i:end], i})
			i = end
			continue
		case c == ':' && depth == 0: // an IPv6 address such as ::1
			end := i + 1
			for end < len(expression) && (isWord(expression[end]) || strings.IndexByte(wordBytes, expression[end]) >= 0) {
				end++
			}
			tokens = append(tokens, token{expression[i:end], i})
			i = end
			continue
		}
		n := 1
		for _, o := range operators {
			if strings.HasPrefix(expression[i:], o) {
				n = len(o)
				break
			}
		}
		switch expression[i] {
		case '[':
			depth++
		case ']':
			depth--
		}
		tokens = append(tokens, token{expression[i : i+n], i})
		i += n
	}
	return append(tokens, token{"", len(expression)})
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

func isWord(c byte) bool { return isLetter(c) || '0' <= c && c <= '9' || c == '.' || c == '_' }
