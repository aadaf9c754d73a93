package policy

// codeKinds are secrets of places where code lives and is built and run.
func codeKinds(s sets) []kind {
	return []kind{
		{
			name: "github-token", what: "GitHub personal, OAuth, app and refresh tokens; the last six characters are a CRC-32 in base 62",
			source: "https://github.blog/engineering/platform-security/behind-githubs-new-authentication-token-formats/",
			starts: []string{"ghp_", "gho_", "ghu_", "ghs_", "ghr_"}, rest: shape{exactly(36, s.base62)}, check: crcBase62, checked: true,
		},
		{
			name: "github-installation-token", what: "GitHub App installation tokens since April 2026: the app's number and a JWT",
			source: "https://github.blog/changelog/2026-04-24-notice-about-upcoming-new-format-for-github-app-installation-tokens/",
			starts: []string{"ghs_"}, rest: shape{between(1, 12, s.digits), literal("_eyJ"), between(10, 2000, s.wordDash), literal("."), between(10, 2000, s.wordDash), literal("."), between(20, 1000, s.wordDash)},
		},
		{
			name: "github-fine-grained-token", what: "GitHub fine-grained personal access tokens",
			source: "https://docs.github.com/authentication/keeping-your-account-and-data-secure/about-authentication-to-github",
			starts: []string{"github_pat_"}, rest: shape{exactly(22, s.base62), literal("_"), exactly(59, s.base62)},
		},
		{
			name: "gitlab-token", what: "GitLab access, deploy, runner, trigger, job, feed and agent tokens",
			source: "https://docs.gitlab.com/security/tokens/#token-prefixes",
			starts: []string{"glpat-", "gloas-", "gldt-", "glrt-", "glptt-", "glcbt-", "glsoat-", "glft-", "glimt-", "glagent-", "glffct-", "glwt-"},
			rest:   shape{between(20, 310, s.wordDashDot)},
		},
		{
			name: "npm-token", what: "npm access tokens, with the same checksum as GitHub's",
			source: "https://github.blog/security/announcing-npms-new-access-token-format/",
			starts: []string{"npm_"}, rest: shape{exactly(36, s.base62)}, check: crcBase62, checked: true,
		},
		{
			name: "pypi-token", what: "PyPI and TestPyPI tokens: a macaroon in base 64",
			source: "https://pypi.org/help/#apitoken",
			starts: []string{"pypi-AgEIcHlwaS5vcmc", "pypi-AgENdGVzdC5weXBpLm9yZw"}, rest: shape{between(50, 600, s.wordDash)},
		},
		{
			name: "rubygems-token", what: "RubyGems API keys", source: "https://guides.rubygems.org/api-key-scopes/",
			starts: []string{"rubygems_"}, rest: shape{exactly(48, s.hex)},
		},
		{
			name: "docker-token", what: "Docker Hub personal and organization access tokens", source: "https://docs.docker.com/security/access-tokens/",
			starts: []string{"dckr_pat_", "dckr_oat_"}, rest: shape{between(27, 40, s.wordDash)},
		},
		{
			name: "atlassian-token", what: "Atlassian API tokens",
			source: "https://support.atlassian.com/atlassian-account/docs/manage-api-tokens-for-your-atlassian-account/",
			starts: []string{"ATATT3xFfGF0"}, rest: shape{between(150, 240, set("09azAZ__--=="))},
		},
		{
			name: "circleci-token", what: "CircleCI personal and project tokens", source: "https://circleci.com/docs/managing-api-tokens/",
			starts: []string{"CCIPAT_", "CCIPRJ_"}, rest: shape{between(20, 24, s.base62), literal("_"), exactly(40, s.hex)},
		},
		{
			name: "buildkite-token", what: "Buildkite user access tokens", source: "https://buildkite.com/docs/apis/managing-api-tokens",
			starts: []string{"bkua_"}, rest: shape{exactly(40, s.hex)},
		},
		{
			name: "terraform-cloud-token", what: "HCP Terraform user, team and organization tokens",
			source: "https://developer.hashicorp.com/terraform/cloud-docs/api-docs",
			starts: []string{".atlasv1."}, back: backOver(s.base62, 14, 14), rest: shape{exactly(14, s.base62), literal(".atlasv1."), between(60, 70, s.base62)},
		},
		{
			name: "vault-token", what: "HashiCorp Vault service and batch tokens", source: "https://developer.hashicorp.com/vault/docs/concepts/tokens#token-prefixes",
			starts: []string{"hvs.", "hvb."}, rest: shape{between(24, 300, s.wordDash)},
		},
		{
			name: "pulumi-token", what: "Pulumi Cloud access tokens", source: "https://www.pulumi.com/docs/administration/access-identity/access-tokens/",
			starts: []string{"pul-"}, rest: shape{exactly(40, s.hex)},
		},
		{
			name: "postman-key", what: "Postman API keys", source: "https://learning.postman.com/docs/developer/postman-api/authentication/",
			starts: []string{"PMAK-"}, rest: shape{exactly(24, s.hex), literal("-"), exactly(34, s.hex)},
		},
		{
			name: "doppler-token", what: "Doppler tokens", source: "https://docs.doppler.com/reference/auth-token-formats",
			starts: []string{"dp.pt.", "dp.st.", "dp.ct.", "dp.sa.", "dp.scim.", "dp.audit."}, rest: shape{between(40, 60, set("09azAZ..__--"))},
		},
		{
			name: "1password-token", what: "1Password service account tokens", source: "https://developer.1password.com/docs/service-accounts/security/",
			starts: []string{"ops_eyJ"}, rest: shape{between(200, 2000, s.wordDash)},
		},
		{
			name: "tailscale-key", what: "Tailscale auth, API, OAuth and SCIM keys", source: "https://tailscale.com/kb/1277/key-prefixes",
			starts: []string{"tskey-auth-", "tskey-api-", "tskey-client-", "tskey-scim-", "tskey-webhook-"},
			rest:   shape{between(8, 30, s.base62), literal("-"), between(20, 60, s.base62)},
		},
		{
			name: "grafana-service-account", what: "Grafana service account tokens, with a CRC-32",
			source: "https://grafana.com/docs/grafana/latest/administration/service-accounts/",
			starts: []string{"glsa_"}, rest: shape{exactly(32, s.base62), literal("_"), exactly(8, s.hex)}, check: crcGrafana, checked: true,
		},
		{
			name: "sentry-token", what: "Sentry organization and user tokens", source: "https://docs.sentry.io/account/auth-tokens/",
			starts: []string{"sntrys_eyJ", "sntryu_"}, rest: shape{between(57, 600, set("09azAZ++//==__"))},
		},
		{
			name: "newrelic-key", what: "New Relic user keys", source: "https://docs.newrelic.com/docs/apis/intro-apis/new-relic-api-keys/",
			starts: []string{"NRAK-"}, rest: shape{exactly(27, s.upper)},
		},
		{
			name: "linear-key", what: "Linear API keys", source: "https://linear.app/developers/graphql",
			starts: []string{"lin_api_"}, rest: shape{exactly(40, s.base62)},
		},
		{
			name: "notion-token", what: "Notion integration tokens", source: "https://developers.notion.com/docs/authorization",
			starts: []string{"ntn_"}, rest: shape{between(43, 50, s.base62)},
		},
		{
			name: "figma-token", what: "Figma personal access tokens", source: "https://developers.figma.com/docs/rest-api/authentication/",
			starts: []string{"figd_"}, rest: shape{between(38, 48, s.wordDash)},
		},
	}
}
