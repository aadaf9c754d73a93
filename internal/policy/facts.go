package policy

import (
	"reflect"
	"strings"
	"time"
	"unicode"

	"cel.dev/cel-go/cel"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// factName is what rules and cases call a field of a struct: gzip_bytes for GzipBytes.
func factName(f reflect.StructField) string {
	var b strings.Builder
	for i, r := range f.Name {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// facts is one act with its facts, as an evaluation sees them. Names are resolved by a
// switch, which costs no map for each decision; a test holds it to the declarations.
type facts struct {
	act deploy.Act
	*deploy.Facts
}

// ResolveName gives the value of a variable.
func (f *facts) ResolveName(name string) (any, bool) {
	switch name {
	case "act":
		return string(f.act), true
	case "principal":
		return f.Principal, true
	case "labels":
		return f.Labels, true
	case "claimed_labels":
		return f.ClaimedLabels, true
	case "client":
		return f.Client, true
	case "door":
		return f.Door, true
	case "target":
		return f.Target, true
	case "session":
		return f.Session, true
	case "fresh":
		return f.Fresh, true
	case "discard_on_failed_check":
		return f.DiscardOnFailedCheck, true
	case "worker":
		return &f.Worker, true
	case "findings":
		return f.Findings, true
	case "usage":
		return &f.Usage, true
	case "now":
		return f.Now, true
	}
	return nil, false
}

// Parent is none.
func (f *facts) Parent() cel.Activation { return nil }

// declarations are the variables of a condition, typed by the fields of deploy.Facts:
// there is one place where a fact is added.
func declarations() []cel.EnvOption {
	out := []cel.EnvOption{cel.Variable("act", cel.StringType)}
	for f := range reflect.TypeFor[deploy.Facts]().Fields() {
		out = append(out, cel.Variable(factName(f), celType(f.Type)))
	}
	return out
}

// celType is the type of a fact in CEL.
func celType(t reflect.Type) *cel.Type {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return cel.TimestampType
	case t.Kind() == reflect.Slice:
		return cel.ListType(celType(t.Elem()))
	case t.Kind() == reflect.Map:
		return cel.MapType(celType(t.Key()), celType(t.Elem()))
	case t.Kind() == reflect.Struct:
		return cel.ObjectType("deploy." + t.Name())
	case t.Kind() == reflect.Bool:
		return cel.BoolType
	case t.Kind() == reflect.String:
		return cel.StringType
	}
	return cel.IntType
}
