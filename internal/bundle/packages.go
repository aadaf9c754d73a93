package bundle

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// packages lists the npm packages that inputs with a share in the bundle belong to, by
// the names of their folders and, where an alias hides it, by their own name as well.
func (b *build) packages(inputs []string) []deploy.PackageFact {
	folders := map[string]bool{}
	var out []deploy.PackageFact
	for _, name := range inputs {
		i := strings.LastIndex(name, "node_modules/")
		if i < 0 {
			continue
		}
		i += len("node_modules/")
		pkg, _, ok := packageName(name[i:])
		if !ok || folders[name[:i]+pkg] {
			continue
		}
		folders[name[:i]+pkg] = true
		own := pkg
		version := ""
		if d := b.f.dir(path.Join(b.f.project, name[:i]+pkg)); d != nil && d.pkg != nil {
			own, version = cmp.Or(d.pkg.name, pkg), d.pkg.raw.text("version")
		}
		out = append(out, deploy.PackageFact{Name: pkg, Version: version})
		if own != pkg {
			out = append(out, deploy.PackageFact{Name: own, Version: version})
		}
	}
	slices.SortFunc(out, func(x, y deploy.PackageFact) int {
		return cmp.Or(strings.Compare(x.Name, y.Name), strings.Compare(x.Version, y.Version))
	})
	return slices.Compact(out)
}
