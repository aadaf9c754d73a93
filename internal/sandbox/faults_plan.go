package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// mildRules are what a good client does not notice: now and then an answer is late, gets
// lost or is somebody else's, where that is safe to get over.
const mildRules = `
	{"endpoint":"PUT /accounts/*/workers/scripts/*","kind":"bad_gateway","rate":0.04},
	{"endpoint":"PUT /accounts/*/workers/scripts/*","kind":"reset_after","rate":0.02},
	{"endpoint":"POST /accounts/*/storage/kv/namespaces","kind":"reset_after","rate":0.1},
	{"endpoint":"POST /accounts/*/d1/database","kind":"truncated","rate":0.1},
	{"endpoint":"POST /accounts/*/d1/database/*/query","kind":"not_json","rate":0.03},
	{"endpoint":"POST /accounts/*/queues","kind":"reset_after","rate":0.1},
	{"endpoint":"POST /accounts/*/workers/scripts/*/subdomain","kind":"rate_limited","rate":0.03},
	{"endpoint":"POST /provisioning/previews/challenge","kind":"server_error","rate":0.05},
	{"endpoint":"GET *","kind":"server_error","rate":0.02},
	{"endpoint":"GET *","kind":"reset_before","rate":0.02},
	{"endpoint":"GET *","kind":"truncated","rate":0.01},
	{"endpoint":"GET *","kind":"errors_null","rate":0.01},
	{"endpoint":"*","kind":"latency","rate":0.05,"latency_ms":20}`

// defaultRules are the mild ones more often, and what no client can hide: replies about
// accounts that were made, accounts that end early, tokens that stop working.
const defaultRules = `
	{"endpoint":"POST /provisioning/previews","kind":"reset_after","rate":0.03},
	{"endpoint":"POST /provisioning/previews","kind":"truncated","rate":0.02},
	{"endpoint":"POST /provisioning/previews","kind":"rate_limited","rate":0.02,"retry_after":1},
	{"endpoint":"POST /provisioning/previews","kind":"reset_before","rate":0.01},
	{"endpoint":"PUT /accounts/*/workers/scripts/*","kind":"account_ends","rate":0.004},
	{"endpoint":"GET /accounts/*/workers/scripts/*/settings","kind":"token_ends","rate":0.004},
	{"endpoint":"PUT /accounts/*/workers/scripts/*","kind":"token_refused","rate":0.01},
	{"endpoint":"PUT /accounts/*/workers/scripts/*","kind":"slow_edge","rate":0.05,"latency_ms":300},
	{"endpoint":"POST /accounts/*/workers/scripts/*/subdomain","kind":"slow_edge","rate":0.05,"latency_ms":300},
	{"endpoint":"POST /accounts/*/workers/scripts/*/tails","kind":"server_error","rate":0.05},
	{"endpoint":"*","kind":"rate_limited","rate":0.01},
	{"endpoint":"*","kind":"server_error","rate":0.01},
	{"endpoint":"*","kind":"reset_before","rate":0.01},
	{"endpoint":"GET *","kind":"not_json","rate":0.02},`

// faultsSeed is the seed where none is named.
const faultsSeed = 1

// MildFaults is the plan "mild" as JSON, for PUT /faults.
func MildFaults(seed uint64) string {
	return fmt.Sprintf(`{"seed":%d,"rules":[%s]}`, seed, mildRules)
}

// DefaultFaults is the plan "default" as JSON.
func DefaultFaults(seed uint64) string {
	return fmt.Sprintf(`{"seed":%d,"rules":[%s%s]}`, seed, defaultRules, mildRules)
}

// parseFaults reads how unkind a sandbox is to be: "" or "none", "mild" or "default",
// each with a seed where one is wanted ("mild:7"), or a plan in JSON.
func parseFaults(spec string) (faultPlan, error) {
	spec = strings.TrimSpace(spec)
	var p faultPlan
	if spec == "" || spec == "none" {
		return p, nil
	}
	if !strings.HasPrefix(spec, "{") {
		name, digits, seeded := strings.Cut(spec, ":")
		seed, err := uint64(faultsSeed), error(nil)
		if seeded {
			seed, err = strconv.ParseUint(digits, 10, 64)
		}
		switch {
		case err != nil:
			return p, fmt.Errorf("faults: the seed %q is not a number", digits)
		case name == "mild":
			spec = MildFaults(seed)
		case name == "default":
			spec = DefaultFaults(seed)
		default:
			return p, fmt.Errorf(`faults: %q is not known; give "mild", "default", "mild:SEED", or a plan in JSON, which begins with {`, name)
		}
	}
	dec := json.NewDecoder(bytes.NewReader([]byte(spec)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil {
		return p, fmt.Errorf("faults: the plan can't be read: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return p, errors.New("faults: there is something after the plan")
	}
	return p, nil
}
