package deploy

import (
	"slices"
)

// YesRule is what a human's yes has to be. It is fixed when a human is asked and kept with
// the asking, so that whoever decides is held to it, also by another process that was
// started without it.
type YesRule struct {
	// Channels are those on which a yes counts; nil: all. ChannelSealed always does: the
	// key is the operator's choice, and no server can stop who holds it.
	Channels []string `json:"channels,omitzero"`
	// FourEyes refuses a yes by whoever owns the agent that asked, compared by owner. Where
	// the channel does not tell whose the human is, there is no yes.
	FourEyes bool `json:"four_eyes,omitempty"`
	// Asker is the owner of whoever asked, where that may be another than the owner of what
	// is asked about: four eyes are not theirs either.
	Asker string `json:"asker,omitempty"`
	// Where is the address at which humans decide behind a login; empty: there is none.
	Where string `json:"where,omitempty"`
}

// Check holds a yes about what owner's agent asked to the rule.
func (y YesRule) Check(owner string, who Human) error {
	if who.Channel == ChannelSealed {
		if y.FourEyes && who.Owner != "" && y.asked(owner, who) {
			return errFourEyes()
		}
		return nil
	}
	switch {
	case y.Channels != nil && !slices.Contains(y.Channels, who.Channel):
		return Errorf(CodeNoApproval, y.way(), "a yes %s does not count for this: it was asked for under a stronger rule", channelWords(who.Channel))
	case y.FourEyes && who.Owner == "":
		return Errorf(CodePolicyDenied, y.way(), "a yes %s does not say whose the human is, and whoever owns the agent that asked can't approve it (four eyes)", channelWords(who.Channel))
	case y.FourEyes && y.asked(owner, who):
		return errFourEyes()
	}
	return nil
}

// asked tells whether a human is one of those who asked.
func (y YesRule) asked(owner string, who Human) bool {
	return who.Owner == owner || who.Owner == y.Asker
}

// way says where a human decides instead.
func (y YesRule) way() string {
	at := "in the console"
	if y.Where != "" {
		at = "at " + y.Where
	}
	if len(y.Channels) > 0 && !slices.Contains(y.Channels, ChannelConsole) && slices.Contains(y.Channels, ChannelPasskey) {
		return "Log in and decide " + at + ", with your passkey."
	}
	return "Log in and decide " + at + "."
}

func errFourEyes() *Error {
	return Errorf(CodePolicyDenied, "Ask somebody else to decide.", "whoever owns the agent that asked can't approve it (four eyes)")
}

// channelWords names a channel in a sentence.
func channelWords(channel string) string {
	switch channel {
	case ChannelPage:
		return "on the attended page"
	case ChannelConsole:
		return "in the console without a passkey"
	case ChannelPasskey:
		return "by passkey"
	case ChannelCommand:
		return "at a terminal"
	}
	return "on an unknown channel"
}

// yesRule is what this server asks a yes to be, for something that humans find at where.
func (s *Service) yesRule(where string) YesRule {
	return YesRule{Channels: s.cfg.Channels, FourEyes: s.cfg.FourEyes, Where: where}
}

// mayApprove holds a yes to the rule under which it was asked for, and to this server's own.
func (s *Service) mayApprove(asked YesRule, owner string, who Human) error {
	if err := asked.Check(owner, who); err != nil {
		return err
	}
	rule := s.yesRule(asked.Where)
	rule.Asker = asked.Asker
	return rule.Check(owner, who)
}
