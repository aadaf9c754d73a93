package policy

import (
	"bytes"
	_ "embed"
)

//go:embed default.jsonc
var defaultPolicy []byte

// Default is the built-in policy, in the language of policy files.
func Default() []byte { return bytes.Clone(defaultPolicy) }
