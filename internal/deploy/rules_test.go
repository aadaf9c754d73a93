package deploy_test

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// Every refusal carries what to do next: the source is read for errors without it.
func TestEveryErrorHasANextStep(t *testing.T) {
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	made := 0
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, e.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CompositeLit:
				if id, ok := n.Type.(*ast.Ident); ok && id.Name == "Error" && !inErrorf(f, n) {
					made++
					for _, field := range []string{"Code", "Message", "Next"} {
						if !sets(n, field) {
							t.Errorf("%s: an Error without %s", set.Position(n.Pos()), field)
						}
					}
				}
			case *ast.CallExpr:
				if id, ok := n.Fun.(*ast.Ident); ok && id.Name == "Errorf" {
					made++
					if len(n.Args) < 3 || empty(n.Args[1]) || empty(n.Args[2]) {
						t.Errorf("%s: an Errorf without next or message", set.Position(n.Pos()))
					}
				}
			}
			return true
		})
	}
	if made < 25 {
		t.Errorf("only %d errors were found: the search is broken", made)
	}
}

// inErrorf tells whether a literal is the one by which Errorf passes its arguments on.
func inErrorf(f *ast.File, lit ast.Node) bool {
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Name.Name == "Errorf" && fn.Pos() <= lit.Pos() && lit.End() <= fn.End() {
			return true
		}
	}
	return false
}

func sets(lit *ast.CompositeLit, field string) bool {
	for _, e := range lit.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok && fmt.Sprint(kv.Key) == field {
			return !empty(kv.Value)
		}
	}
	return false
}

func empty(e ast.Expr) bool {
	lit, ok := e.(*ast.BasicLit)
	return ok && (lit.Value == `""` || lit.Value == "``")
}

// Each key is held by one at a time, whatever comes and goes, and nothing is left over.
func TestKeyedLocks(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		keys := rapid.IntRange(1, 4).Draw(rt, "keys")
		type step struct {
			key       int
			wait, own time.Duration
		}
		steps := make([]step, rapid.IntRange(1, 40).Draw(rt, "callers"))
		for i := range steps {
			steps[i] = step{
				rapid.IntRange(0, keys-1).Draw(rt, "key"),
				time.Duration(rapid.IntRange(0, 50).Draw(rt, "patience")) * time.Millisecond,
				time.Duration(rapid.IntRange(0, 20).Draw(rt, "holds")) * time.Millisecond,
			}
		}
		synctest.Test(t, func(t *testing.T) {
			var locks deploy.Locks
			holders := make([]atomic.Int32, keys)
			var got, gave atomic.Int32
			var wg sync.WaitGroup
			for _, s := range steps {
				wg.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), s.wait)
					defer cancel()
					unlock, err := locks.Lock(ctx, fmt.Sprint(s.key))
					if err != nil {
						gave.Add(1)
						return
					}
					got.Add(1)
					if holders[s.key].Add(1) != 1 {
						t.Error("two hold one key")
					}
					time.Sleep(s.own)
					holders[s.key].Add(-1)
					unlock()
				})
			}
			wg.Wait()
			if locks.Held() != 0 || int(got.Load()+gave.Load()) != len(steps) {
				t.Errorf("%d keys left over, %d got it, %d gave up of %d", locks.Held(), got.Load(), gave.Load(), len(steps))
			}
		})
	})
}

// The same without fake time, for the race detector.
func TestKeyedLocksUnderStress(t *testing.T) {
	var locks deploy.Locks
	counters := make([]int, 3) // each guarded by its key
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := range 300 {
				k := (g + i) % len(counters)
				unlock, err := locks.Lock(t.Context(), fmt.Sprint(k))
				if err != nil {
					t.Error(err)
					return
				}
				counters[k]++
				unlock()
			}
		})
	}
	wg.Wait()
	if sum := counters[0] + counters[1] + counters[2]; sum != 16*300 || locks.Held() != 0 {
		t.Errorf("%d turns, %d keys left over", sum, locks.Held())
	}
}
