package engine

import "time"

// RetainerOptions are the limits of the retainer. Zero values do not limit.
type RetainerOptions struct {
	MaxMessages int           // a message for a further topic, or any message while there are more, is not retained
	MaxPayload  int           // bytes; a larger payload is not retained
	Expiry      time.Duration // life of messages that bring no expiry interval; those below $SYS/ have none
	Volatile    bool          // messages are not stored: they end with the process
}
