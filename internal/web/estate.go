package web

import (
	_ "embed"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// estateHTML is what every page about a claim shows alike: what would be kept, what of it
// was not made from here, and who asks for it.
//
//go:embed estate.html
var estateHTML string

// item is one thing that would be kept, harmless to show.
type item struct {
	Title string
	Facts []itemFact
}

type itemFact struct {
	Name, Value string
	Link, Code  bool
}

func itemsOf(e *deploy.Estate) []item {
	var out []item
	for _, it := range e.Items() {
		one := item{Title: label(it.Title)}
		for _, f := range it.Facts {
			one.Facts = append(one.Facts, itemFact{
				Name: label(f.Name), Value: label(f.Value), Code: f.Kind == deploy.FactCode, Link: f.Kind == deploy.FactAddress && goodLink(f.Value),
			})
		}
		out = append(out, one)
	}
	return out
}
