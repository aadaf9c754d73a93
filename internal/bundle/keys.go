package bundle

// keyUse is what becomes of a key of the wrangler configuration.
type keyUse uint8

const (
	keyUsed     keyUse = iota
	keyHarmless        // has no effect on a temporary deployment: a warning names it
	keyRefused         // can't be had: refused before anything is spent
)

// configKey is one top-level key of wrangler's published configuration schema.
type configKey struct {
	name string
	use  keyUse
	// own tells that an environment does not inherit the key from the top level.
	own bool
	// why and next are for keys that are not used.
	why, next string
}

const (
	notOnTemporary = "a temporary account can't have it"
	notListed      = "it is not among what temporary accounts are documented to have"
	dropIt         = "Remove it from the configuration, and the code that uses it."
	nextSecretFree = "Remove it for the temporary deployment; add it back after the account was claimed."
)

// configKeys is the whole of wrangler's schema (wrangler 4.164.0, config-schema.json; a
// test holds the table against it) and what a temporary account may do with it
// (wrangler-wire fact sheet, section 21).
func configKeys() []configKey {
	return []configKey{
		{name: "name"},
		{name: "main"},
		{name: "compatibility_date"},
		{name: "compatibility_flags"},
		{name: "env"},
		{name: "vars", own: true},
		{name: "assets"},
		{name: "no_bundle"},
		{name: "find_additional_modules"},
		{name: "preserve_file_names"},
		{name: "base_dir"},
		{name: "rules"},
		{name: "minify"},
		{name: "keep_names"},
		{name: "define", own: true},
		{name: "alias"},
		{name: "tsconfig"},
		{name: "jsx_factory"},
		{name: "jsx_fragment"},
		{name: "upload_source_maps"},
		{name: "observability"},
		{name: "version_metadata", own: true},
		{name: "services", own: true},
		{name: "secrets", own: true},
		{name: "kv_namespaces", own: true},
		{name: "d1_databases", own: true},
		{name: "durable_objects", own: true},
		{name: "migrations"},
		{name: "queues", own: true},
		{name: "triggers"},
		{name: "hyperdrive", own: true},
		{name: "build"}, // its command is refused, an empty one is not
		{name: "compliance_region"},

		{name: "$schema", use: keyHarmless},
		{name: "account_id", use: keyHarmless, why: "the account is the temporary one"},
		{name: "workers_dev", use: keyHarmless, why: "a temporary deployment is always served on workers.dev"},
		{name: "preview_urls", use: keyHarmless, why: "no preview addresses are made"},
		{name: "send_metrics", use: keyHarmless, why: "no metrics are sent"},
		{name: "dependencies_instrumentation", use: keyHarmless, why: "dependencies are not reported"},
		{name: "dev", use: keyHarmless, why: "it is about wrangler dev"},
		{name: "keep_vars", use: keyHarmless, why: "a temporary Worker has no variables from elsewhere"},
		{name: "first_party_worker", use: keyHarmless, why: "it is for Cloudflare's own Workers"},
		{name: "python_modules", use: keyHarmless, why: "it is about Python Workers"},
		{name: "previews", use: keyHarmless, why: "it is about previews"},
		{name: "limits", use: keyHarmless, why: "own limits need a paid plan"},
		{name: "placement", use: keyHarmless, why: "placement is left to Cloudflare"},
		{name: "logpush", use: keyHarmless, why: "Logpush needs a paid plan"},
		{name: "cache", use: keyHarmless, why: "caching is left as it is"},
		{name: "tail_consumers", use: keyHarmless, own: true, why: "tail Workers of other accounts can't be attached"},
		{name: "streaming_tail_consumers", use: keyHarmless, own: true, why: "tail Workers of other accounts can't be attached"},

		{name: "route", use: keyRefused, why: "a temporary account has no zones and no custom domains", next: "Remove routes for the temporary deployment: the Worker is served on workers.dev. Add them back after the claim."},
		{name: "routes", use: keyRefused, why: "a temporary account has no zones and no custom domains", next: "Remove routes for the temporary deployment: the Worker is served on workers.dev. Add them back after the claim."},
		{name: "exports", use: keyRefused, why: "classes are declared by migrations here", next: "Declare Durable Object classes in migrations instead: {\"tag\": \"v1\", \"new_sqlite_classes\": [\"…\"]}."},
		{name: "ratelimits", use: keyRefused, own: true, why: notListed, next: dropIt},
		{name: "analytics_engine_datasets", use: keyRefused, own: true, why: notListed, next: dropIt},
		{name: "mtls_certificates", use: keyRefused, own: true, why: notListed, next: dropIt},
		{name: "r2_buckets", use: keyRefused, own: true, why: notOnTemporary, next: "Use static assets for fixed files; R2 needs a claimed account."},
		{name: "workflows", use: keyRefused, own: true, why: notOnTemporary, next: dropIt},
		{name: "containers", use: keyRefused, own: true, why: notOnTemporary, next: dropIt},
		{name: "cloudchamber", use: keyRefused, own: true, why: notOnTemporary, next: dropIt},
		{name: "ai", use: keyRefused, own: true, why: notOnTemporary, next: dropIt},
		{name: "ai_search", use: keyRefused, own: true, why: notOnTemporary, next: dropIt},
		{name: "ai_search_namespaces", use: keyRefused, own: true, why: notOnTemporary, next: dropIt},
		{name: "agent_memory", use: keyRefused, own: true, why: notOnTemporary, next: dropIt},
		{name: "vectorize", use: keyRefused, own: true, why: notOnTemporary, next: dropIt},
		{name: "browser", use: keyRefused, own: true, why: notOnTemporary, next: dropIt},
		{name: "analytics", use: keyRefused, own: true, why: notOnTemporary, next: dropIt},
		{name: "images", use: keyRefused, own: true, why: notOnTemporary, next: dropIt},
		{name: "media", use: keyRefused, own: true, why: notOnTemporary, next: dropIt},
		{name: "stream", use: keyRefused, own: true, why: notOnTemporary, next: dropIt},
		{name: "send_email", use: keyRefused, own: true, why: notOnTemporary, next: dropIt},
		{name: "addresses", use: keyRefused, why: notOnTemporary, next: dropIt},
		{name: "connect", use: keyRefused, own: true, why: notOnTemporary, next: dropIt},
		{name: "dispatch_namespaces", use: keyRefused, own: true, why: notOnTemporary, next: dropIt},
		{name: "pipelines", use: keyRefused, own: true, why: notOnTemporary, next: dropIt},
		{name: "k2", use: keyRefused, own: true, why: notOnTemporary, next: dropIt},
		{name: "secrets_store_secrets", use: keyRefused, own: true, why: notOnTemporary, next: dropIt},
		{name: "artifacts", use: keyRefused, own: true, why: notOnTemporary, next: dropIt},
		{name: "flagship", use: keyRefused, own: true, why: notOnTemporary, next: dropIt},
		{name: "worker_loaders", use: keyRefused, own: true, why: notOnTemporary, next: dropIt},
		{name: "vpc_services", use: keyRefused, own: true, why: notOnTemporary, next: dropIt},
		{name: "vpc_networks", use: keyRefused, own: true, why: notOnTemporary, next: dropIt},
		{name: "logfwdr", use: keyRefused, why: notOnTemporary, next: dropIt},
		{name: "unsafe", use: keyRefused, own: true, why: "it passes settings on that nobody can check", next: dropIt},
		{name: "unsafe_hello_world", use: keyRefused, own: true, why: notOnTemporary, next: dropIt},
		{name: "access", use: keyRefused, why: "without it the Worker would be open to everyone", next: nextSecretFree},
		{name: "site", use: keyRefused, why: "Workers Sites is the old way to serve files", next: "Replace site with \"assets\": {\"directory\": …}."},
		{name: "pages_build_output_dir", use: keyRefused, why: "this is a configuration of Pages, not of Workers", next: "Replace it with \"assets\": {\"directory\": …}, and functions with a Worker as main."},
		{name: "wasm_modules", use: keyRefused, why: "it belongs to the service-worker format", next: "Import the file instead: import mod from \"./file.wasm\"."},
		{name: "text_blobs", use: keyRefused, why: "it belongs to the service-worker format", next: "Import the file instead: import text from \"./file.txt\"."},
		{name: "data_blobs", use: keyRefused, why: "it belongs to the service-worker format", next: "Import the file instead: import data from \"./file.bin\"."},
	}
}
