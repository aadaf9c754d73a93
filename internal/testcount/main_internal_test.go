package main

import (
	"strings"
	"testing"
)

func TestTally(t *testing.T) {
	for name, c := range map[string]struct {
		in                      string
		passed, failed, skipped int
		good, strict            bool
	}{
		"all well":  {`{"Action":"pass","Package":"p","Test":"A"}` + "\n" + `{"Action":"pass","Package":"p"}`, 1, 0, 0, true, true},
		"a failure": {`{"Action":"pass","Package":"p","Test":"A"}` + "\n" + `{"Action":"output","Package":"p","Test":"B","Output":"why\n"}` + "\n" + `{"Action":"fail","Package":"p","Test":"B"}`, 1, 1, 0, false, false},
		"a skip":    {`{"Action":"pass","Package":"p","Test":"A"}` + "\n" + `{"Action":"skip","Package":"p","Test":"B"}`, 1, 0, 1, true, false},
		"nothing":   {`{"Action":"skip","Package":"p"}`, 0, 0, 0, false, false},
		"no build":  {`{"Action":"pass","Package":"q","Test":"A"}` + "\n" + `{"Action":"fail","Package":"p"}`, 1, 0, 0, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			got := &tally{output: map[string][]string{}, w: &out}
			if err := got.read(strings.NewReader(c.in)); err != nil {
				t.Fatal(err)
			}
			if got.passed != c.passed || got.failed != c.failed || got.skipped != c.skipped || got.good(false) != c.good || got.good(true) != c.strict {
				t.Errorf("%+v", got)
			}
			if c.failed > 0 && !strings.Contains(out.String(), "why") {
				t.Errorf("the reason is not shown: %s", out.String())
			}
		})
	}
}
