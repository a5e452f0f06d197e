package raftstore

// This file knows no raft: it says what a command does to the tables, and
// nothing else. Replaying the same commands gives the same tables everywhere.

// recentRequests is how many outcomes are kept for requests that are repeated.
const recentRequests = 4096

// changes is a set of tables.
type changes uint16

func changed(t Table) changes { return 1 << t }

// apply returns the state after a command. A command that this release cannot
// read panics: going on would make this node differ from the others.
func apply(s *state, entry []byte) (*state, outcome, changes) {
	d, err := decode(entry)
	if err != nil {
		panic("raftstore: " + err.Error())
	}
	n := *s
	if r, seen := s.recent.get(d.id); seen {
		return &n, r.Outcome, 0
	}
	var out outcome
	var ch changes
	switch b := d.body.(type) {
	case *createUser:
		out, ch = n.createUser(b)
	case *userTags:
		out, ch = n.changeUser(b.Name, func(u *User) { u.Tags = b.Tags })
	case *userPassword:
		out, ch = n.changeUser(b.Name, func(u *User) { u.Hash = b.Hash })
	case *byName:
		if d.kind == cmdDeleteUser {
			out, ch = dropFrom(&n.users, b.Name, Users)
		} else {
			out, ch = dropFrom(&n.apps, b.Name, Applications)
		}
	case *createApplication:
		out, ch = n.createApplication(b)
	case *updateApplication:
		out, ch = n.updateApplication(b)
	case *putBan:
		out, ch = n.putBan(b)
	case *deleteBan:
		out, ch = n.deleteBan(pairKey(b.As, b.Who))
	case *sweepBans:
		out, ch = n.sweepBans(b.Now)
	case *setConfig:
		out, ch = n.setConfig(b)
	case *deleteConfig:
		out, ch = dropFrom(&n.config, pairKey(b.Scope, b.Key), Config)
	case *pluginState:
		out, ch = n.setPluginState(b)
	case *pluginConfig:
		out, ch = n.setPluginConfig(b)
	case *putCredential:
		out, ch = n.putCredential(b)
	case *deleteCredential:
		out, ch = dropFrom(&n.creds, pairKey(b.Kind, b.ID), Credentials)
	case *putMember:
		out, ch = n.putMember(b)
	case *dropMember:
		out, ch = n.dropMember(b.ID)
	case *clusterKey:
		n.key, ch = *b, changed(sealKeys)
	case *putMarks:
		out, ch = n.putMarks(b)
	}
	n.remember(d.id, out)
	return &n, out, ch
}

func (s *state) remember(id string, out outcome) {
	s.recent = s.recent.put(id, request{Age: s.clock, Outcome: out})
	s.recentAge = s.recentAge.put(ageKey(s.clock), id)
	s.clock++
	if s.recentAge.len() <= recentRequests {
		return
	}
	var age, oldest string
	s.recentAge.walk(0, func(a, id string) bool { age, oldest = a, id; return false })
	s.recentAge, s.recent = s.recentAge.drop(age), s.recent.drop(oldest)
}

func dropFrom[V any](t *tree[V], key string, table Table) (outcome, changes) {
	was := t.len()
	if *t = t.drop(key); t.len() == was {
		return notFound, 0
	}
	return done, changed(table)
}

// full reports whether a table has no room for one more key.
func full[V any](t tree[V], key string, most int) bool {
	_, there := t.get(key)
	return !there && t.len() >= most
}

func (s *state) createUser(c *createUser) (outcome, changes) {
	if _, there := s.users.get(c.User.Name); there {
		return exists, 0
	}
	if s.users.len() >= c.Max {
		return tooMany, 0
	}
	s.users = s.users.put(c.User.Name, c.User)
	return done, changed(Users)
}

func (s *state) changeUser(name string, change func(*User)) (outcome, changes) {
	u, ok := s.users.get(name)
	if !ok {
		return notFound, 0
	}
	change(&u)
	s.users = s.users.put(name, u)
	return done, changed(Users)
}

func (s *state) createApplication(c *createApplication) (outcome, changes) {
	if _, there := s.apps.get(c.App.ID); there {
		return exists, 0
	}
	if s.apps.len() >= c.Max {
		return tooMany, 0
	}
	s.apps = s.apps.put(c.App.ID, c.App)
	return done, changed(Applications)
}

func (s *state) updateApplication(c *updateApplication) (outcome, changes) {
	a, ok := s.apps.get(c.App.ID)
	if !ok {
		return notFound, 0
	}
	a.Name, a.Desc, a.Status, a.Expired = c.App.Name, c.App.Desc, c.App.Status, c.App.Expired
	s.apps = s.apps.put(a.ID, a)
	return done, changed(Applications)
}

func (s *state) putBan(c *putBan) (outcome, changes) {
	key := pairKey(c.Ban.As, c.Ban.Who)
	if full(s.bans, key, c.Max) {
		return tooMany, 0
	}
	s.deleteBan(key)
	s.bans = s.bans.put(key, c.Ban)
	if c.Ban.Until != 0 {
		s.banEnds = s.banEnds.put(endKey(c.Ban.Until, key), struct{}{})
	}
	return done, changed(Bans)
}

func (s *state) deleteBan(key string) (outcome, changes) {
	b, ok := s.bans.get(key)
	if !ok {
		return notFound, 0
	}
	s.bans = s.bans.drop(key)
	s.banEnds = s.banEnds.drop(endKey(b.Until, key))
	return done, changed(Bans)
}

func (s *state) sweepBans(now int64) (outcome, changes) {
	var ended []string
	most := s.banEnds.rank(endKey(now+1, ""))
	s.banEnds.walk(0, func(k string, _ struct{}) bool {
		if len(ended) < most {
			ended = append(ended, k[len(endKey(0, "")):])
		}
		return len(ended) < most
	})
	for _, key := range ended {
		s.deleteBan(key)
	}
	if len(ended) == 0 {
		return done, 0
	}
	return done, changed(Bans)
}

// setConfig sets a value of a scope. A value for the cluster holds on every
// node from now on: what nodes had set for this key themselves goes.
func (s *state) setConfig(c *setConfig) (outcome, changes) {
	key := pairKey(c.Scope, c.Key)
	if full(s.config, key, c.Max) {
		return tooMany, 0
	}
	ch := changed(Config)
	if c.Scope == Cluster {
		var own []string
		s.config.walk(0, func(k string, _ string) bool {
			if scope, name := splitKey(k); scope != Cluster && name == c.Key {
				own = append(own, k)
			}
			return true
		})
		for _, k := range own {
			s.config = s.config.drop(k)
		}
		if s.withoutPluginKeys(func(string) bool { return true }, c.Key) {
			ch |= changed(PluginConfigs)
		}
	} else if s.withoutPluginKeys(func(node string) bool { return node == c.Scope }, c.Key) {
		ch |= changed(PluginConfigs)
	}
	s.config = s.config.put(key, c.Value)
	return done, ch
}

// withoutPluginKeys takes a key out of the plugin configurations of nodes.
func (s *state) withoutPluginKeys(of func(node string) bool, key string) bool {
	type change struct {
		at    string
		pairs []Pair
	}
	var hits []change
	s.plugins.walk(0, func(k string, pairs []Pair) bool {
		if node, _ := splitKey(k); !of(node) {
			return true
		}
		kept := make([]Pair, 0, len(pairs))
		for _, p := range pairs {
			if p.Key != key {
				kept = append(kept, p)
			}
		}
		if len(kept) < len(pairs) {
			hits = append(hits, change{k, kept})
		}
		return true
	})
	for _, h := range hits {
		s.plugins = s.plugins.put(h.at, h.pairs)
	}
	return len(hits) > 0
}

func (s *state) setPluginState(c *pluginState) (outcome, changes) {
	key := pairKey(c.Node, c.Plugin)
	if full(s.states, key, c.Max) {
		return tooMany, 0
	}
	s.states = s.states.put(key, c.Loaded)
	return done, changed(PluginStates)
}

func (s *state) setPluginConfig(c *pluginConfig) (outcome, changes) {
	key := pairKey(c.Node, c.Plugin)
	if full(s.plugins, key, c.Max) {
		return tooMany, 0
	}
	s.plugins = s.plugins.put(key, c.Pairs)
	ch := changed(PluginConfigs)
	for _, k := range c.Keys {
		if _, dropped := dropFrom(&s.config, pairKey(c.Node, k), Config); dropped != 0 {
			ch |= dropped
		}
	}
	return done, ch
}

func (s *state) putCredential(c *putCredential) (outcome, changes) {
	key := pairKey(c.Cred.Kind, c.Cred.ID)
	_, there := s.creds.get(key)
	switch {
	case there && c.When == IfAbsent:
		return exists, 0
	case !there && c.When == IfPresent:
		return notFound, 0
	case !there && s.creds.len() >= c.Max:
		return tooMany, 0
	}
	s.creds = s.creds.put(key, c.Cred)
	return done, changed(Credentials)
}

// putMember keeps the row of a node. Names are unique.
func (s *state) putMember(c *putMember) (outcome, changes) {
	m := c.Member
	old, there := s.members.get(m.ID)
	switch {
	case there:
		m.Joined = old.Joined
	case !c.Join:
		return notFound, 0
	case s.members.len() >= c.Max:
		return tooMany, 0
	}
	taken := false
	s.members.walk(0, func(id string, o Member) bool {
		taken = taken || o.Name == m.Name && id != m.ID && id != c.Replaces
		return !taken
	})
	if taken {
		return exists, 0
	}
	ch := changed(Members)
	if c.Replaces != "" && c.Replaces != m.ID {
		s.members = s.members.drop(c.Replaces)
		s.config = renamed(s.config, c.Replaces, m.ID)
		s.states = renamed(s.states, c.Replaces, m.ID)
		s.plugins = renamed(s.plugins, c.Replaces, m.ID)
		ch |= changed(Config) | changed(PluginStates) | changed(PluginConfigs)
	}
	s.members = s.members.put(m.ID, m)
	return done, ch
}

// dropMember forgets a node and what it had of its own.
func (s *state) dropMember(id string) (outcome, changes) {
	out, ch := dropFrom(&s.members, id, Members)
	if out != done {
		return out, ch
	}
	s.config = without(s.config, id)
	s.states = without(s.states, id)
	s.plugins = without(s.plugins, id)
	return done, ch | changed(Config) | changed(PluginStates) | changed(PluginConfigs)
}

// without drops the rows of a node.
func without[V any](t tree[V], node string) tree[V] {
	from := t
	from.from(pairKey(node, ""), func(k string, _ V) { t = t.drop(k) })
	return t
}
