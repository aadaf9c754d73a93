package deploy

import "time"

// Notice tells people elsewhere that something happened or waits. It holds no secret
// and no address that decides anything: who follows its link logs in there.
type Notice struct {
	// Type is one of the Notice types, in the form that webhooks use.
	Type string
	At   time.Time
	// Data are plain facts, ready for JSON.
	Data map[string]any
}

// The types of notices.
const (
	NoticeClaimWaiting = "claim.waiting" // a human has been asked to keep an account
	NoticeClaimDecided = "claim.decided" // approved, refused, withdrawn or lapsed
	// NoticeApprovalWaiting: a policy asks a human about an act.
	NoticeApprovalWaiting = "approval.waiting"
	NoticeExpiring        = "account.expiring" // ten minutes are left
	NoticeCheckpoint      = "audit.checkpoint" // the audit log's signed head
	NoticeFrozen          = "operator.freeze"  // deployments were stopped, or allowed again
)

// Notifier carries notices out of the process. Notify never blocks and never fails the
// call that it belongs to: what can't be delivered is logged by the door.
type Notifier interface {
	Notify(n Notice)
}
