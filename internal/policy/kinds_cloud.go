package policy

// cloudKinds are secrets of clouds, platforms and databases as a service.
func cloudKinds(s sets) []kind {
	return []kind{
		{
			name: "cloudflare-token", what: "Cloudflare user and account API tokens and global keys, in the prefixed format",
			source: "https://developers.cloudflare.com/fundamentals/api/get-started/token-formats/",
			// 40 characters and a checksum, whose making is not published.
			starts: []string{"cfut_", "cfat_", "cfk_"}, rest: shape{between(44, 60, s.wordDash)},
		},
		{
			name: "cloudflare-origin-ca-key", what: "Cloudflare Origin CA keys",
			source: "https://developers.cloudflare.com/fundamentals/api/get-started/ca-keys/",
			starts: []string{"v1.0-"}, rest: shape{exactly(24, s.hex), literal("-"), between(140, 160, s.hex)},
		},
		{
			name: "aws-access-key-id", what: "AWS access key ids, long-term and temporary; the secret stands next to them",
			source: "https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-unique-ids",
			starts: []string{"AKIA", "ASIA"}, rest: shape{exactly(16, s.base32)},
		},
		{
			name: "google-api-key", what: "Google API keys (also of Gemini and Firebase)",
			source: "https://cloud.google.com/docs/authentication/api-keys",
			starts: []string{"AIza"}, rest: shape{exactly(35, s.wordDash)},
		},
		{
			name: "google-oauth-secret", what: "Google OAuth client secrets", source: "https://support.google.com/cloud/answer/15549257",
			starts: []string{"GOCSPX-"}, rest: shape{exactly(28, s.wordDash)},
		},
		{
			name: "google-access-token", what: "Google OAuth access tokens", source: "https://cloud.google.com/docs/authentication/token-types#access",
			starts: []string{"ya29."}, rest: shape{between(60, 1000, s.wordDash)},
		},
		{
			name: "azure-storage-key", what: "Azure account keys in connection strings: 64 bytes in base 64",
			source: "https://learn.microsoft.com/azure/storage/common/storage-configure-connection-string",
			starts: []string{"AccountKey="}, rest: shape{exactly(86, set("09azAZ++//")), literal("==")},
		},
		{
			name: "azure-client-secret", what: "Microsoft Entra client secrets",
			source: "https://learn.microsoft.com/purview/sit-defn-azure-ad-client-secret",
			starts: []string{"Q~"}, back: backOver(s.wordDashDot, 4, 4), rest: shape{exactly(3, s.wordDashDot), exactly(1, s.digits), literal("Q~"), between(31, 34, s.wordDashDot)},
		},
		{
			name: "digitalocean-token", what: "DigitalOcean personal, OAuth and refresh tokens", source: "https://docs.digitalocean.com/reference/api/create-personal-access-token/",
			starts: []string{"dop_v1_", "doo_v1_", "dor_v1_"}, rest: shape{exactly(64, s.hex)},
		},
		{
			name: "heroku-key", what: "Heroku API keys", source: "https://devcenter.heroku.com/changelog-items/2857",
			starts: []string{"HRKU-"}, rest: shape{between(36, 70, s.wordDash)},
		},
		{
			name: "fly-token", what: "Fly.io macaroon tokens", source: "https://fly.io/docs/security/tokens/",
			starts: []string{"fm2_", "fm1r_", "fm1a_"}, rest: shape{between(100, 3000, s.base64)},
		},
		{
			name: "netlify-token", what: "Netlify personal access tokens", source: "https://docs.netlify.com/api-and-cli-guides/api-guides/get-started-with-api/",
			starts: []string{"nfp_", "nfc_", "nfo_"}, rest: shape{between(36, 40, s.base62)},
		},
		{
			name: "supabase-key", what: "Supabase secret keys and access tokens", source: "https://supabase.com/docs/guides/api/api-keys",
			starts: []string{"sb_secret_", "sbp_"}, rest: shape{between(31, 60, s.wordDash)},
		},
		{
			name: "planetscale-token", what: "PlanetScale passwords, service and OAuth tokens", source: "https://planetscale.com/docs/concepts/service-tokens",
			starts: []string{"pscale_tkn_", "pscale_pw_", "pscale_oauth_"}, rest: shape{between(32, 64, s.wordDashDot)},
		},
		{
			name: "neon-key", what: "Neon API keys", source: "https://neon.com/docs/manage/api-keys",
			starts: []string{"napi_"}, rest: shape{between(50, 70, s.base62)},
		},
		{
			name: "databricks-token", what: "Databricks personal access tokens", source: "https://docs.databricks.com/dev-tools/auth/pat",
			starts: []string{"dapi"}, rest: shape{exactly(32, s.hex)},
		},
		{
			name: "dynatrace-token", what: "Dynatrace tokens: a public and a secret part", source: "https://docs.dynatrace.com/docs/manage/identity-access-management/access-tokens-and-oauth-clients/access-tokens",
			starts: []string{"dt0c01.", "dt0s01.", "dt0s16."}, rest: shape{between(8, 24, set("09AZ--")), literal("."), exactly(64, s.upper)},
		},
		{
			name: "mapbox-secret-token", what: "Mapbox secret tokens (public ones begin with pk)", source: "https://docs.mapbox.com/help/dive-deeper/access-tokens/",
			starts: []string{"sk.eyJ"}, rest: shape{between(20, 300, s.wordDash), literal("."), between(20, 30, s.wordDash)},
		},
	}
}
