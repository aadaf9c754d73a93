package main

import "testing"

// TestNpmSettingsComeFromTheEnvironment: the operator's registry and authorities are
// handed to our own npm, which runs with an empty environment.
func TestNpmSettingsComeFromTheEnvironment(t *testing.T) {
	env := map[string]string{"npm_config_registry": "https://registry.internal/", "NODE_EXTRA_CA_CERTS": "/ca.pem", "NPM_CONFIG_CAFILE": "/other.pem"}
	p := process{env: func(k string) (string, bool) { v, ok := env[k]; return v, ok }}
	if got := fromEnv(p, "NPM_CONFIG_REGISTRY", "npm_config_registry"); got != "https://registry.internal/" {
		t.Errorf("registry %q", got)
	}
	if got := fromEnv(p, "NODE_EXTRA_CA_CERTS", "NPM_CONFIG_CAFILE"); got != "/ca.pem" {
		t.Errorf("authorities %q", got)
	}
	if got := fromEnv(p, "NOTHING"); got != "" {
		t.Errorf("%q", got)
	}
}
