package http1

// Error says why a message was refused. It is stored in the parser that reports
// it and valid until that is reset, so reporting does not allocate.
type Error struct {
	Kind   Kind
	Offset int // bytes from the start of the head, for a Body: from the start of the body
	Status int // what to answer the client: 4xx or 5xx for a request, 502 for a response
}

// Error implements error.
func (e *Error) Error() string { return e.Kind.String() }

// Kind is a reason for refusal.
type Kind uint8

// String names the reason in lower-case words.
func (k Kind) String() string { return "" }

// Section names the section of the RFC that the reason rests on, or the limit.
func (k Kind) Section() string { return "" }
