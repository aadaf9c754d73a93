package deploy

import (
	"fmt"
	"slices"
)

// FromEnv is the key under which a secret binding of an artifact names the variable
// that its value is taken from. The value itself is never part of an artifact.
const FromEnv = "from_env"

// fromEnv is the variable that a binding names, or "".
func (b Binding) fromEnv() string { s, _ := b[FromEnv].(string); return s }

// UsesSecrets tells whether values have to be filled in before the upload.
func (a *Artifact) UsesSecrets() bool {
	return slices.ContainsFunc(a.Bindings, func(b Binding) bool { return b.fromEnv() != "" })
}

// secrets finds the values of an artifact's secret bindings, by binding, before
// anything is spent. What is not on the operator's list is refused in the same words
// whether or not it is set: an agent must not learn what else this machine knows.
func (s *Service) secrets(a *Artifact) (map[string]string, error) {
	values := map[string]string{}
	for _, b := range a.Bindings {
		if text, _ := b["text"].(string); b.Type() == "secret_text" {
			s.cfg.Redactor.Add(text) // given by the agent itself
		}
		name := b.fromEnv()
		if name == "" {
			continue
		}
		value, allowed := "", false
		if s.cfg.Secrets != nil {
			value, allowed = s.cfg.Secrets(name)
		}
		switch {
		case !allowed:
			return nil, Errorf(CodeSecretMissing,
				"Ask the operator to start the server with --allow-secret "+name+" and that variable in its environment, or take the secret out of the configuration. Nothing was spent.",
				"the secret %s is to come from the variable %s, which the operator has not allowed", b.Name(), name)
		case value == "":
			return nil, Errorf(CodeSecretMissing,
				"Ask the operator to set "+name+" in the environment of the server and to start it again. Nothing was spent.",
				"the secret %s is to come from the variable %s, which is allowed but not set", b.Name(), name)
		}
		s.cfg.Redactor.Add(value)
		values[b.Name()] = value
	}
	return values, nil
}

// shortSecrets warns of values that the Redactor does not take for secrets.
func shortSecrets(a *Artifact, values map[string]string) (warnings []string) {
	for _, b := range a.Bindings {
		value, _ := b["text"].(string)
		if b.fromEnv() != "" {
			value = values[b.Name()]
		}
		if b.Type() == "secret_text" && value != "" && len(value) < minSecret {
			warnings = append(warnings, fmt.Sprintf("The secret %s has less than %d bytes, too few to be told from ordinary words: it is not hidden where the Worker's answers and logs are shown.", b.Name(), minSecret))
		}
	}
	return warnings
}

// withSecrets gives the bindings with the values in place of their names.
func withSecrets(bindings []Binding, values map[string]string) []Binding {
	if len(values) == 0 {
		return bindings
	}
	out := slices.Clone(bindings)
	for i, b := range out {
		if b.fromEnv() != "" {
			out[i] = Binding{"name": b.Name(), "type": "secret_text", "text": values[b.Name()]}
		}
	}
	return out
}
