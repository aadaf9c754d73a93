package bundle

import "context"

// installer installs the packages of inline projects.
type installer struct {
	cfg Config
}

func newInstaller(cfg Config) *installer { return &installer{cfg: cfg} }

// mount gives the tree of an inline project with its packages.
func (n *installer) mount(_ context.Context, t *memTree) (tree, func(), error) {
	return t, func() {}, nil
}
