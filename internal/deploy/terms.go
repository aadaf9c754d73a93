package deploy

// termsText names what a human accepts; the two addresses are those that the
// provisioning API wants to have accepted (wrangler-wire fact sheet, section 3.3).
const termsText = "Making a temporary account means accepting Cloudflare's Terms of Service " +
	"(https://www.cloudflare.com/terms/) and Privacy Policy (https://www.cloudflare.com/privacypolicy/)."
