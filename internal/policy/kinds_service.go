package policy

// serviceKinds are secrets of services: models, payments, messages.
func serviceKinds(s sets) []kind {
	return []kind{
		{
			name: "openai-key", what: "OpenAI project, service account, admin and user keys: all carry the company's name in base 64",
			source: "https://platform.openai.com/docs/api-reference/authentication",
			starts: []string{"T3BlbkFJ"}, back: backTo(s.wordDash, "sk-", 180), rest: shape{literal("sk-"), between(40, 240, s.wordDash)},
		},
		{
			name: "anthropic-key", what: "Anthropic API, admin and OAuth keys", source: "https://docs.anthropic.com/en/api/admin-api/apikeys/get-api-key",
			starts: []string{"sk-ant-"}, rest: shape{between(60, 140, s.wordDash)},
		},
		{
			name: "openrouter-key", what: "OpenRouter keys", source: "https://openrouter.ai/docs/api-reference/authentication",
			starts: []string{"sk-or-v1-"}, rest: shape{exactly(64, s.hex)},
		},
		{
			name: "huggingface-token", what: "Hugging Face user access tokens", source: "https://huggingface.co/docs/hub/security-tokens",
			starts: []string{"hf_"}, rest: shape{between(34, 38, s.base62)},
		},
		{
			name: "groq-key", what: "Groq API keys", source: "https://console.groq.com/docs/quickstart",
			starts: []string{"gsk_"}, rest: shape{exactly(52, s.base62)},
		},
		{
			name: "xai-key", what: "xAI API keys", source: "https://docs.x.ai/docs/tutorial",
			starts: []string{"xai-"}, rest: shape{exactly(80, s.base62)},
		},
		{
			name: "replicate-token", what: "Replicate API tokens", source: "https://replicate.com/docs/topics/security/api-tokens",
			starts: []string{"r8_"}, rest: shape{exactly(37, s.base62)},
		},
		{
			name: "langsmith-key", what: "LangSmith personal and service keys", source: "https://docs.langchain.com/langsmith/create-account-api-key",
			starts: []string{"lsv2_pt_", "lsv2_sk_"}, rest: shape{exactly(32, s.hex), literal("_"), exactly(10, s.hex)},
		},
		{
			name: "stripe-key", what: "Stripe live secret and restricted keys (test and publishable keys are none); other issuers use the same prefix",
			source: "https://docs.stripe.com/keys",
			starts: []string{"sk_live_", "rk_live_"}, rest: shape{between(16, 128, s.base62)},
		},
		{
			name: "webhook-signing-secret", what: "Signing secrets of webhooks (Stripe, Standard Webhooks)", source: "https://docs.stripe.com/webhooks",
			starts: []string{"whsec_"}, rest: shape{between(32, 64, s.base64)},
		},
		{
			name: "square-token", what: "Square access tokens and OAuth secrets", source: "https://developer.squareup.com/docs/build-basics/access-tokens",
			starts: []string{"sq0atp-", "sq0csp-"}, rest: shape{between(22, 43, s.wordDash)},
		},
		{
			name: "easypost-key", what: "EasyPost production keys", source: "https://docs.easypost.com/docs/authentication",
			starts: []string{"EZAK"}, rest: shape{exactly(54, s.base62)},
		},
		{
			name: "shopify-token", what: "Shopify admin, private app and shared secrets", source: "https://shopify.dev/docs/apps/build/authentication-authorization",
			starts: []string{"shpat_", "shpss_", "shpca_", "shppa_"}, rest: shape{exactly(32, s.hex)},
		},
		{
			name: "slack-token", what: "Slack bot, user, app-level, configuration and session tokens", source: "https://docs.slack.dev/authentication/tokens/",
			starts: []string{"xoxb-", "xoxp-", "xoxa-", "xoxr-", "xoxs-", "xoxo-", "xoxe-", "xoxe.xoxb-", "xoxe.xoxp-", "xapp-"},
			rest:   shape{between(24, 300, set("09azAZ--"))}, check: hasDigit,
		},
		{
			name: "slack-webhook", what: "Slack incoming webhooks: whoever has the URL can post", source: "https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks/",
			starts: []string{"hooks.slack.com/services/"}, rest: shape{between(8, 14, s.upper), literal("/"), between(8, 14, s.upper), literal("/"), between(20, 30, s.base62)},
		},
		{
			name: "discord-webhook", what: "Discord webhooks", source: "https://discord.com/developers/docs/resources/webhook",
			starts: []string{"discord.com/api/webhooks/", "discordapp.com/api/webhooks/"}, rest: shape{between(17, 20, s.digits), literal("/"), between(60, 80, s.wordDash)},
		},
		{
			name: "telegram-bot-token", what: "Telegram bot tokens", source: "https://core.telegram.org/bots/api#authorizing-your-bot",
			// The API's addresses have "bot" right before it; 11 digits are none.
			starts: []string{":AA"}, glued: true, back: backOver(s.digits, 8, 11), rest: shape{between(8, 10, s.digits), literal(":AA"), exactly(33, s.wordDash)},
		},
		{
			name: "sendgrid-key", what: "SendGrid API keys", source: "https://www.twilio.com/docs/sendgrid/ui/account-and-settings/api-keys",
			starts: []string{"SG."}, rest: shape{exactly(22, s.wordDash), literal("."), exactly(43, s.wordDash)},
		},
		{
			name: "mailgun-key", what: "Mailgun private keys of the older format", source: "https://documentation.mailgun.com/docs/mailgun/api-reference/mg-auth",
			starts: []string{"key-"}, rest: shape{exactly(32, s.hex)},
		},
		{
			name: "mailchimp-key", what: "Mailchimp keys: they end with their data centre", source: "https://mailchimp.com/developer/marketing/guides/quick-start/",
			starts: []string{"-us"}, back: backOver(s.hex, 32, 32), rest: shape{exactly(32, s.hex), literal("-us"), between(1, 2, s.digits)},
		},
		{
			name: "brevo-key", what: "Brevo API and SMTP keys", source: "https://developers.brevo.com/docs/getting-started",
			starts: []string{"xkeysib-", "xsmtpsib-"}, rest: shape{exactly(64, s.hex), literal("-"), exactly(16, s.base62)},
		},
		{
			name: "age-secret-key", what: "age identities, classic and post-quantum; the classic ones end with a Bech32 checksum",
			source: "https://github.com/C2SP/C2SP/blob/main/age.md",
			starts: []string{"AGE-SECRET-KEY-1", "AGE-SECRET-KEY-PQ-1"}, rest: shape{between(58, 120, s.bech32)}, check: bech32Valid, checked: true,
		},
		{
			name: "jwt", what: "JSON Web Tokens that are signed, but for the samples of documentation and keys that say of themselves that they are public",
			source: "RFC 7519",
			starts: []string{"eyJ"}, rest: shape{between(12, 2000, s.wordDash), literal("."), between(12, 8000, s.wordDash), literal("."), between(20, 1400, s.wordDash)}, check: liveJWT,
		},
	}
}
