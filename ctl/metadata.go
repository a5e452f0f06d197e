package ctl

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/oapi-codegen/nullable"
	"github.com/spf13/cobra"

	nodeapi "github.com/lacewing-mqtt/lacewing/gen/node"
	"github.com/lacewing-mqtt/lacewing/gen/v3"
)

func (s *session) adminsCommand() *cobra.Command {
	return group("admins", "Admin users of the dashboard listener and of API v2",
		leaf("list", "List the admin users", func(cmd *cobra.Command, _ []string) error {
			a, err := fetch[[]v3.UserRow](s.v3.ListUsers(cmd.Context()))
			if err != nil {
				return err
			}
			p := s.printer(cmd, "USER", "TAGS")
			for _, u := range a.Value {
				if err := p.row(u, u.Username, u.Tags); err != nil {
					return err
				}
			}
			return p.end()
		}),
		leaf("add <username> <password> [tags]", "Make an admin user", func(cmd *cobra.Command, args []string) error {
			u := v3.NewUser{Username: args[0], Password: args[1]}
			if len(args) > 2 {
				u.Tags = &args[2]
			}
			if err := do(s.v3.CreateUser(cmd.Context(), u)); err != nil {
				return err
			}
			return s.say(cmd, "admin user %s is made", args[0])
		}),
		leaf("passwd <username> <password>", "Set the password of an admin user", func(cmd *cobra.Command, args []string) error {
			if err := do(s.node.SetPassword(cmd.Context(), args[0], nodeapi.NewPassword{Password: args[1]})); err != nil {
				return err
			}
			return s.say(cmd, "the password of %s is set", args[0])
		}),
		leaf("del <username>", "Delete an admin user", func(cmd *cobra.Command, args []string) error {
			if err := do(s.v3.DeleteUser(cmd.Context(), args[0])); err != nil {
				return err
			}
			return s.say(cmd, "admin user %s is deleted", args[0])
		}),
	)
}

func (s *session) mgmtCommand() *cobra.Command {
	var secret, desc, expired string
	insert := leaf("insert <appid> <name>", "Make an application; its secret is printed", func(cmd *cobra.Command, args []string) error {
		on := true
		app := v3.NewApp{AppId: args[0], Name: &args[1], Desc: &desc, Status: &on}
		if secret != "" {
			app.Secret = &secret
		}
		if expired != "" {
			at, err := deadline(expired)
			if err != nil {
				return err
			}
			app.Expired = nullable.NewNullableWithValue(at)
		}
		a, err := fetch[v3.AppSecret](s.v3.AddApp(cmd.Context(), app))
		if err != nil {
			return err
		}
		if s.json {
			return printJSON(cmd.OutOrStdout(), a.Raw)
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "AppSecret: %s\n", a.Value.Secret)
		return err
	})
	insert.Flags().StringVar(&secret, "secret", "", "the secret (made when not given)")
	insert.Flags().StringVar(&desc, "desc", "", "a description")
	insert.Flags().StringVar(&expired, "expired", "", "when it ends: Unix seconds, a date, or a time from now such as 720h")
	return group("mgmt", "Applications that may use the API listener",
		leaf("list", "List the applications", func(cmd *cobra.Command, _ []string) error {
			a, err := fetch[[]v3.AppRow](s.v3.ListApps(cmd.Context()))
			if err != nil {
				return err
			}
			p := s.printer(cmd, "APP", "NAME", "STATUS", "EXPIRED", "DESCRIPTION")
			for _, r := range a.Value {
				if err := p.row(r, r.AppId, r.Name, r.Status, when(r.Expired), r.Desc); err != nil {
					return err
				}
			}
			return p.end()
		}),
		insert,
		leaf("lookup <appid>", "Show an application with its secret", func(cmd *cobra.Command, args []string) error {
			a, err := fetch[any](s.v3.LookupApp(cmd.Context(), args[0]))
			if err != nil {
				return err
			}
			app, ok := a.Value.(map[string]any)
			switch {
			case !ok:
				return fmt.Errorf("no application %s", args[0])
			case s.json:
				return printJSON(cmd.OutOrStdout(), a.Raw)
			}
			return s.members(cmd, app)
		}),
		leaf("update <appid> <status>", "Let an application log in (true) or not (false)", func(cmd *cobra.Command, args []string) error {
			status, err := strconv.ParseBool(args[1])
			if err != nil {
				return fmt.Errorf("%q is neither true nor false", args[1])
			}
			a, err := fetch[any](s.v3.LookupApp(cmd.Context(), args[0]))
			if err != nil {
				return err
			}
			app, ok := a.Value.(map[string]any)
			if !ok {
				return fmt.Errorf("no application %s", args[0])
			}
			name, desc := fmt.Sprint(app["name"]), fmt.Sprint(app["desc"])
			change := v3.AppChange{Name: &name, Desc: &desc, Status: &status}
			if at, ok := app["expired"].(float64); ok {
				change.Expired = nullable.NewNullableWithValue(int64(at))
			}
			if err := do(s.v3.UpdateApp(cmd.Context(), args[0], change)); err != nil {
				return err
			}
			return s.say(cmd, "application %s: status %t", args[0], status)
		}),
		leaf("delete <appid>", "Delete an application", func(cmd *cobra.Command, args []string) error {
			if err := do(s.v3.DelApp(cmd.Context(), args[0])); err != nil {
				return err
			}
			return s.say(cmd, "application %s is deleted", args[0])
		}),
	)
}

func (s *session) usersCommand() *cobra.Command {
	return group("users", "MQTT user names and passwords of the plugin auth_username (admin users: see admins)",
		leaf("list", "List the user names", func(cmd *cobra.Command, _ []string) error {
			a, err := fetch[[]string](s.v3.ListUsername(cmd.Context()))
			return s.names(cmd, "USER", a.Value, err)
		}),
		leaf("add <username> <password>", "Add a user", func(cmd *cobra.Command, args []string) error {
			if err := do(s.v3.AddUsername(cmd.Context(), v3.UsernameCredentials{Username: args[0], Password: args[1]})); err != nil {
				return err
			}
			return s.say(cmd, "user %s is added", args[0])
		}),
		leaf("update <username> <password>", "Set the password of a user", func(cmd *cobra.Command, args []string) error {
			if err := do(s.v3.UpdateUsername(cmd.Context(), args[0], v3.PasswordChange{Password: args[1]})); err != nil {
				return err
			}
			return s.say(cmd, "the password of %s is set", args[0])
		}),
		leaf("del <username>", "Delete a user", func(cmd *cobra.Command, args []string) error {
			if err := do(s.v3.DeleteUsername(cmd.Context(), args[0])); err != nil {
				return err
			}
			return s.say(cmd, "user %s is deleted", args[0])
		}),
	)
}

func (s *session) clientidCommand() *cobra.Command {
	return group("clientid", "MQTT client ids and passwords of the plugin auth_clientid",
		leaf("list", "List the client ids", func(cmd *cobra.Command, _ []string) error {
			a, err := fetch[[]string](s.v3.ListClientid(cmd.Context()))
			return s.names(cmd, "CLIENT", a.Value, err)
		}),
		leaf("add <clientid> <password>", "Add a client id", func(cmd *cobra.Command, args []string) error {
			if err := do(s.v3.AddClientid(cmd.Context(), v3.ClientidCredentials{Clientid: args[0], Password: args[1]})); err != nil {
				return err
			}
			return s.say(cmd, "client id %s is added", args[0])
		}),
		leaf("update <clientid> <password>", "Set the password of a client id", func(cmd *cobra.Command, args []string) error {
			if err := do(s.v3.UpdateClientid(cmd.Context(), args[0], v3.PasswordChange{Password: args[1]})); err != nil {
				return err
			}
			return s.say(cmd, "the password of %s is set", args[0])
		}),
		leaf("del <clientid>", "Delete a client id", func(cmd *cobra.Command, args []string) error {
			if err := do(s.v3.DeleteClientid(cmd.Context(), args[0])); err != nil {
				return err
			}
			return s.say(cmd, "client id %s is deleted", args[0])
		}),
	)
}

func (s *session) names(cmd *cobra.Command, head string, names []string, err error) error {
	if err != nil {
		return err
	}
	p := s.printer(cmd, head)
	for _, n := range names {
		if err := p.row(n, n); err != nil {
			return err
		}
	}
	return p.end()
}

func (s *session) bannedCommand() *cobra.Command {
	var reason, by, desc, until string
	add := leaf("add <client_id|username|ip_address> <who>", "Ban a client", func(cmd *cobra.Command, args []string) error {
		ban := v3.Ban{As: v3.BanKind(args[0]), Who: args[1], Reason: &reason, By: &by, Desc: &desc}
		if until != "" {
			at, err := deadline(until)
			if err != nil {
				return err
			}
			ban.Until = nullable.NewNullableWithValue(at)
		}
		if err := do(s.v3.CreateBanned(cmd.Context(), ban)); err != nil {
			return err
		}
		return s.say(cmd, "%s %s is banned", args[0], args[1])
	})
	add.Flags().StringVar(&reason, "reason", "", "why")
	add.Flags().StringVar(&by, "by", "ctl", "who says so")
	add.Flags().StringVar(&desc, "desc", "", "a description")
	add.Flags().StringVar(&until, "until", "", "when it ends: Unix seconds, a date, or a time from now such as 24h")
	var limit int
	return group("banned", "Clients that may not connect",
		limitFlag(leaf("list", "List the bans", func(cmd *cobra.Command, _ []string) error {
			p := s.printer(cmd, "AS", "WHO", "UNTIL", "BY", "REASON", "DESCRIPTION")
			return paged(s, p, limit, func(page, size int) ([]v3.BannedRow, int, error) {
				a, err := fetch[v3.BannedPage](s.v3.ListBanned(cmd.Context(), &v3.ListBannedParams{Page: &page, Limit: &size}))
				return a.Value.Items, a.Value.Meta.Count, err
			}, func(r v3.BannedRow) error {
				return p.row(r, r.As, r.Who, when(r.Until), text(r.By), text(r.Reason), text(r.Desc))
			})
		}), &limit),
		add,
		leaf("del <client_id|username|ip_address> <who>", "Lift a ban", func(cmd *cobra.Command, args []string) error {
			as := v3.BanKind(args[0])
			if err := do(s.v3.DeleteBanned(cmd.Context(), args[1], &v3.DeleteBannedParams{As: &as}, v3.BanKindBody{})); err != nil {
				return err
			}
			return s.say(cmd, "%s %s is not banned", args[0], args[1])
		}),
	)
}

// deadline reads a time: Unix seconds, a date, a date with a time, or a duration from
// now.
func deadline(text string) (int64, error) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, nil
	}
	if d, err := time.ParseDuration(text); err == nil {
		return time.Now().Add(d).Unix(), nil
	}
	for _, form := range []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(form, text, time.Local); err == nil {
			return t.Unix(), nil
		}
	}
	return 0, fmt.Errorf("%q is no time: give Unix seconds, 2027-01-31, or 24h", text)
}

// when shows the end of an application or a ban.
func when(d v3.Deadline) string {
	shown := text(d)
	if n, err := strconv.ParseInt(shown, 10, 64); err == nil {
		return time.Unix(n, 0).Format("2006-01-02 15:04:05")
	}
	return "never"
}

func (s *session) pluginsCommand() *cobra.Command {
	act := func(use, short, done string, call func(cmd *cobra.Command, node, name string) error) *cobra.Command {
		return leaf(use, short, func(cmd *cobra.Command, args []string) error {
			err := s.onNode(cmd.Context(), func(node string) error { return call(cmd, node, args[0]) })
			if err != nil {
				return fmt.Errorf("plugin %s: %w", args[0], err)
			}
			return s.say(cmd, "plugin %s %s", args[0], done)
		})
	}
	return group("plugins", "Plugins of the node",
		leaf("list", "List the plugins", func(cmd *cobra.Command, _ []string) error {
			st, err := fetch[nodeapi.PluginList](s.node.ListPlugins(cmd.Context()))
			if err != nil {
				return err
			}
			p := s.printer(cmd, "PLUGIN", "ACTIVE", "DESCRIPTION")
			for _, r := range st.Value {
				if err := p.row(r, r.Name, r.Active, r.Description); err != nil {
					return err
				}
			}
			return p.end()
		}),
		act("load <plugin>", "Start a plugin", "is loaded", func(cmd *cobra.Command, node, name string) error {
			return do(s.v3.LoadPlugin(cmd.Context(), node, name))
		}),
		act("unload <plugin>", "Stop a plugin", "is unloaded", func(cmd *cobra.Command, node, name string) error {
			return do(s.v3.UnloadPlugin(cmd.Context(), node, name))
		}),
		act("reload <plugin>", "Stop a plugin and start it again", "is reloaded", func(cmd *cobra.Command, _, name string) error {
			return do(s.node.ReloadPlugin(cmd.Context(), name))
		}),
		leaf("config <plugin> [key=value,...]", "Show the configuration of a plugin, or change keys of it", func(cmd *cobra.Command, args []string) error {
			return s.onNode(cmd.Context(), func(node string) error {
				a, err := fetch[[]v3.PluginConfigEntry](s.v3.GetPluginConfigs(cmd.Context(), node, args[0]))
				if err != nil {
					return fmt.Errorf("plugin %s: %w", args[0], err)
				}
				if len(args) == 1 {
					p := s.printer(cmd, "KEY", "VALUE")
					for _, r := range a.Value {
						if err := p.row(r, r.Key, text(r.Value)); err != nil {
							return err
						}
					}
					return p.end()
				}
				set := v3.PluginConfigValues{}
				for _, r := range a.Value {
					if r.Required {
						set[r.Key] = r.Value
					}
				}
				for _, pair := range strings.Split(args[1], ",") {
					key, value, ok := strings.Cut(pair, "=")
					if !ok {
						return fmt.Errorf("%q is not key=value", pair)
					}
					set[strings.TrimSpace(key)] = strings.TrimSpace(value)
				}
				if err := do(s.v3.UpdatePluginConfigs(cmd.Context(), node, args[0], set)); err != nil {
					return fmt.Errorf("plugin %s: %w", args[0], err)
				}
				return s.say(cmd, "plugin %s is configured", args[0])
			})
		}),
	)
}

func (s *session) configsCommand() *cobra.Command {
	var all bool
	list := leaf("list [prefix]", "List keys with the values in effect and where they come from", func(cmd *cobra.Command, args []string) error {
		a, err := fetch[[]nodeapi.EffectiveConfig](s.node.EffectiveConfigs(cmd.Context()))
		if err != nil {
			return err
		}
		p := s.printer(cmd, "KEY", "VALUE", "ORIGIN", "HOT")
		for _, r := range a.Value {
			if len(args) > 0 && !strings.HasPrefix(r.Key, args[0]) || !all && len(args) == 0 && r.Origin == "default" {
				continue
			}
			from := string(r.Origin)
			if r.Source != "" {
				from = r.Source
			}
			if err := p.row(r, r.Key, text(r.Value), from, r.Hot); err != nil {
				return err
			}
		}
		return p.end()
	})
	list.Flags().BoolVarP(&all, "all", "a", false, "keys with their defaults too")
	return group("configs", "Configuration", list,
		leaf("set <key> <value>", "Change a key that takes effect at once, on all nodes", func(cmd *cobra.Command, args []string) error {
			app, err := s.appOf(cmd, args[0])
			if err != nil {
				return err
			}
			if err := do(s.v3.UpdateConfig(cmd.Context(), app, v3.ConfigChange{Key: args[0], Value: args[1]})); err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			return s.say(cmd, "%s is %s", args[0], args[1])
		}),
	)
}

// appOf finds the application that a key belongs to.
func (s *session) appOf(cmd *cobra.Command, key string) (string, error) {
	k, _, ok := tableLookup(key)
	if !ok {
		return "", fmt.Errorf("unknown key %s; lacewing ctl configs list --all shows them", key)
	}
	if !k.Hot || k.App == "" {
		return "", fmt.Errorf("%s takes effect at the next start: set it in the file", key)
	}
	return k.App, nil
}
