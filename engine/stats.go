package engine

// Stat is a gauge with its highest value since the start.
type Stat struct {
	Count, Max int64
}

// Stats is a reading of all gauges.
type Stats struct {
	Connections         Stat // clients connected
	Sessions            Stat
	SessionsPersistent  Stat // sessions of clients that connected without clean start
	Topics              Stat // distinct filters
	Subscribers         Stat // subscriber entries of filters; equal to Subscriptions on one node
	Subscriptions       Stat // pairs of session and filter
	SubscriptionsShared Stat // those of share groups among them
	Routes              Stat // route rows
	Retained            Stat
}
