package policy

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // rules name time zones, also on machines without a database of them

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/ext"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

const (
	// maxCost bounds the work of one condition, in CEL's units of about one operation.
	// It is the real bound: the same facts always cost the same, however busy the machine.
	// It is some tens of milliseconds, and room for 1,000 packages against 20 names (a test).
	maxCost = 200_000
	// checkEvery is how many steps of a loop pass between two looks at the clock.
	checkEvery = 1000
	// maxCondition bounds a condition, in characters.
	maxCondition = 10_000
)

// environment is what conditions are compiled in.
func environment() (*cel.Env, error) {
	opts := append(declarations(),
		ext.NativeTypes(ext.ParseStructField(factName),
			reflect.TypeFor[deploy.WorkerFacts](), reflect.TypeFor[deploy.Finding](), reflect.TypeFor[deploy.Usage]()),
		cel.OptionalTypes(), ext.Strings(), ext.Sets(),
		cel.ParserExpressionSizeLimit(maxCondition), cel.ParserRecursionLimit(100), cel.ExpressionNestingDepthLimit(100),
		cel.ASTValidators(
			cel.ValidateDurationLiterals(), cel.ValidateTimestampLiterals(), cel.ValidateRegexLiterals(),
			cel.ValidateHomogeneousAggregateLiterals(), cel.ValidateComprehensionNestingLimit(3), literals{},
		))
	env, err := cel.NewEnv(opts...)
	if err != nil {
		return nil, fmt.Errorf("the environment of rules: %w", err)
	}
	return env, nil
}

// compile makes a program of a condition, or notes what is wrong with it in the file.
func (d *document) compile(env *cel.Env, e expression) cel.Program {
	if e.at == 0 {
		return nil // it is missing, which was noted
	}
	if strings.TrimSpace(e.text) == "" {
		d.mistake(e.at, "the condition is empty; \"true\" is the one that always holds")
		return nil
	}
	tree, issues := env.Compile(e.text)
	if issues.Err() != nil {
		for _, i := range issues.Errors() {
			d.hinted(e.place(i.Location.Line(), i.Location.Column()), suggestion(i.Message), "%s", plainIssue(i.Message))
		}
		return nil
	}
	if t := tree.OutputType(); !t.IsExactType(cel.BoolType) {
		d.mistake(e.place(1, 0), "a condition is true or false, and this one is of type %s", t)
		return nil
	}
	p, err := env.Program(tree, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(maxCost), cel.InterruptCheckFrequency(checkEvery))
	if err != nil {
		d.mistake(e.place(1, 0), "the condition can't be planned: %s", err)
		return nil
	}
	return p
}

var (
	unknownName = regexp.MustCompile(`^undeclared reference to '([^']*)'`)
	unknownKey  = regexp.MustCompile(`^undefined field '([^']*)'`)
)

// plainIssue words what the compiler says without its inner terms.
func plainIssue(text string) string {
	if m := unknownName.FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("there is no fact or function %q", clip(m[1]))
	}
	if m := unknownKey.FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("there is no field %q", clip(m[1]))
	}
	return clip(strings.TrimPrefix(text, "Syntax error: "))
}

// suggestion names the closest fact or field.
func suggestion(text string) string {
	var known []string
	name := ""
	if m := unknownName.FindStringSubmatch(text); m != nil {
		name = m[1]
		known = []string{"act"}
		for _, f := range fieldsOf(reflect.TypeFor[deploy.Facts]()) {
			known = append(known, f.name)
		}
	} else if m := unknownKey.FindStringSubmatch(text); m != nil {
		name = m[1]
		for _, t := range structs() {
			for _, f := range fieldsOf(t) {
				known = append(known, f.name)
			}
		}
	}
	if best := closest(name, known); best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return ""
}

// structs are the facts that have fields of their own.
func structs() []reflect.Type {
	return []reflect.Type{
		reflect.TypeFor[deploy.WorkerFacts](), reflect.TypeFor[deploy.BindingFact](), reflect.TypeFor[deploy.PackageFact](),
		reflect.TypeFor[deploy.Finding](), reflect.TypeFor[deploy.Usage](),
	}
}

// doors are how a call can come.
func doors() []string { return []string{"stdio", "http", "command"} }

// literals refuses what compiles and can never hold, or never be evaluated: a door or
// an act that does not exist, a time zone that nobody knows. A rule with a misspelt door
// would otherwise be a rule that never fires.
type literals struct{}

// Name is the validator's.
func (literals) Name() string { return "hourglass.literals" }

// Validate looks at every call of the condition.
func (literals) Validate(_ *cel.Env, _ cel.ValidatorConfig, a *ast.AST, issues *cel.Issues) {
	isCall := func(e ast.NavigableExpr) bool { return e.Kind() == ast.CallKind }
	for _, e := range ast.MatchDescendants(ast.NavigateAST(a), isCall) {
		call := e.AsCall()
		args := call.Args()
		switch call.FunctionName() {
		case operators.Equals, operators.NotEquals:
			compared(args[0], args[1], issues)
			compared(args[1], args[0], issues)
		case operators.In, operators.OldIn:
			if args[1].Kind() == ast.ListKind {
				for _, one := range args[1].AsList().Elements() {
					compared(args[0], one, issues)
				}
			}
		default:
			if strings.HasPrefix(call.FunctionName(), "get") && len(args) == 1 {
				if zone, ok := text(args[0]); ok && !knownZone(zone) {
					issues.ReportErrorAtID(args[0].ID(), "there is no time zone %q", clip(zone))
				}
			}
		}
	}
}

// compared checks a literal that the fact is compared with.
func compared(fact, literal ast.Expr, issues *cel.Issues) {
	value, ok := text(literal)
	if !ok || fact.Kind() != ast.IdentKind {
		return
	}
	known := map[string][]string{"door": doors(), "act": actNames()}[fact.AsIdent()]
	if known != nil && !slices.Contains(known, value) {
		issues.ReportErrorAtID(literal.ID(), "there is no %s %q: known are %s", fact.AsIdent(), clip(value), strings.Join(known, ", "))
	}
}

func text(e ast.Expr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	s, ok := e.AsLiteral().Value().(string)
	return s, ok
}

var offsetZone = regexp.MustCompile(`^[+-]?\d\d:\d\d$`)

func knownZone(name string) bool {
	if offsetZone.MatchString(name) {
		return true
	}
	_, err := time.LoadLocation(name)
	return err == nil && name != ""
}
