package e2e

import (
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// mustFit checks an answer of a ringroad that runs against its schema. No schema permits a field that it does not name.
func mustFit(t *testing.T, schema, answer string) {
	t.Helper()
	s, err := jsonschema.NewCompiler().Compile("../../cmd/internal/control/schema/" + schema)
	if err != nil {
		t.Fatal(err)
	}
	check := func(text string) error {
		t.Helper()
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		return s.Validate(v)
	}
	if err := check(answer); err != nil {
		t.Errorf("%s: %v in\n%s", schema, err, answer)
	}
	if check(strings.Replace(answer, "{", `{"unseen": 1,`, 1)) == nil || check(strings.Replace(answer, `"workers"`, `"others"`, 1)) == nil {
		t.Errorf("%s: it would miss another field", schema)
	}
}
