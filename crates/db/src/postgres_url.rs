use std::fmt;
use std::net::IpAddr;

use percent_encoding::percent_decode_str;
use url::form_urlencoded;

/// The connection parameters of a PostgreSQL URL, by libpq's names.
#[derive(Clone)]
pub(crate) struct PostgresUrl {
    parameters: Vec<(&'static str, String)>,
    /// The URL without anything that may be a password.
    redacted: String,
}

/// The accepted spellings of the driver's parameters, each with the name of its parameter.
const PARAMETERS: [(&str, &str); 17] = [
    ("host", "host"),
    ("hostaddr", "host"),
    ("port", "port"),
    ("user", "user"),
    ("password", "password"),
    ("dbname", "dbname"),
    ("sslmode", "sslmode"),
    ("ssl-mode", "sslmode"),
    ("sslrootcert", "sslrootcert"),
    ("ssl-root-cert", "sslrootcert"),
    ("ssl-ca", "sslrootcert"),
    ("sslcert", "sslcert"),
    ("ssl-cert", "sslcert"),
    ("sslkey", "sslkey"),
    ("ssl-key", "sslkey"),
    ("application_name", "application_name"),
    ("statement-cache-capacity", "statement-cache-capacity"),
];

const UNENCODED_PASSWORD: &str = "has a #, or an @ after a / or ?: \
    in a password write %23 for #, %3F for ?, %2F for / and %40 for @";

impl PostgresUrl {
    /// Parses the text after `postgres:` as psql does: each part is optional, and a query parameter
    /// may replace it.
    pub(crate) fn parse(scheme: &str, rest: &str) -> Result<Self, &'static str> {
        let rest = rest
            .strip_prefix("//")
            .ok_or("lacks the // after its scheme")?;
        // A # has no meaning in such a URL. It is a mistake, or part of a password that isn't
        // encoded.
        if rest.contains('#') {
            return Err(UNENCODED_PASSWORD);
        }
        let (before_query, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = before_query.split_once('/').unwrap_or((before_query, ""));
        if path.contains('@') {
            return Err(UNENCODED_PASSWORD);
        }
        let (login, address) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let (host, port) = split_address(address)?;

        let mut url = Self {
            parameters: Vec::new(),
            redacted: String::new(),
        };
        for (name, part) in [("host", host), ("user", user), ("password", password)] {
            url.push(name, &decoded(part)?)?;
        }
        url.push("port", port)?;
        url.push("dbname", &decoded(path)?)?;
        for (number, (name, value)) in (1_u32..).zip(form_urlencoded::parse(query.as_bytes())) {
            if name == "options" || name.starts_with("options[") {
                url.push_options(&name, &value)?;
            } else if let Some((_, known)) =
                PARAMETERS.iter().find(|(spelling, _)| *spelling == name)
            {
                url.push(known, &value)?;
            } else if name.contains('@') || value.contains('@') {
                return Err(UNENCODED_PASSWORD);
            } else {
                // The message omits the name, which may be part of a password.
                tracing::warn!("parameter {number} of the database URL is unknown and ignored");
            }
        }
        // If the query has an @, its ? and the text before it may belong to a password.
        url.redacted = match query.contains('@') {
            true => format!("{scheme}://…"),
            false => url.redacted_url(scheme, user, address, path),
        };
        Ok(url)
    }

    /// Returns the URL without secrets. A host given as a parameter is included:
    /// `postgres://me@/app?host=/run/postgresql`.
    fn redacted_url(&self, scheme: &str, user: &str, address: &str, path: &str) -> String {
        let user = match user.is_empty() || user.to_ascii_lowercase().contains("%3a") {
            true => String::new(),
            false => format!("{user}@"),
        };
        let path = match path.is_empty() {
            true => String::new(),
            false => format!("/{path}"),
        };
        let host = self.host().filter(|_| address.is_empty());
        let host = host.map_or_else(String::new, |host| format!("?host={host}"));
        format!("{scheme}://{user}{address}{path}{host}")
    }

    fn push(&mut self, name: &'static str, value: &str) -> Result<(), &'static str> {
        if value.contains('\0') {
            return Err("has a NUL character");
        }
        match name {
            "port" if !value.is_empty() && !value.parse().is_ok_and(|port: u16| port > 0) => {
                return Err("has a port that is not a number from 1 to 65535");
            }
            "host" if value.contains(',') => return Err("names several hosts: use one"),
            "sslmode" if !SSL_MODES.contains(&value.to_ascii_lowercase().as_str()) => {
                return Err("has an unknown sslmode: \
                     use disable, allow, prefer, require, verify-ca or verify-full");
            }
            "statement-cache-capacity" if value.parse::<usize>().is_err() => {
                return Err("has a statement-cache-capacity that is not a number");
            }
            _ => {}
        }
        if !value.is_empty() {
            // The last value wins, except that options accumulate.
            if name != "options" {
                self.parameters.retain(|(given, _)| *given != name);
            }
            self.parameters.push((name, value.to_owned()));
        }
        Ok(())
    }

    /// Accepts `options=-c x=y` and `options[x]=y`.
    fn push_options(&mut self, name: &str, value: &str) -> Result<(), &'static str> {
        if name == "options" {
            return self.push("options", value);
        }
        let setting = name.strip_prefix("options[");
        let setting = setting.and_then(|name| name.strip_suffix(']'));
        let setting = setting.ok_or("has an options[…] without its closing bracket")?;
        self.push("options", &format!("-c {setting}={}", escaped(value)))
    }

    fn host(&self) -> Option<&str> {
        let mut parameters = self.parameters.iter();
        let (_, host) = parameters.find(|(name, _)| *name == "host")?;
        Some(host)
    }

    /// Returns the driver's options. All parts are passed as parameters, in which an IPv6 address
    /// needs no brackets.
    #[cfg(feature = "postgres")]
    pub(crate) fn options(&self) -> crate::Result<sea_orm::sqlx::postgres::PgConnectOptions> {
        use sea_orm::sqlx::ConnectOptions;
        use sea_orm::sqlx::postgres::PgConnectOptions;

        let parameters = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(&self.parameters)
            .finish();
        let url = url::Url::parse(&format!("postgres:///?{parameters}"));
        let options = url
            .ok()
            .and_then(|url| PgConnectOptions::from_url(&url).ok());
        // Omits the driver's own message, since it repeats values.
        options.ok_or(crate::ConnectError::InvalidUrl {
            reason: "can't be used: a parameter has a value that the driver refuses",
        })
    }

    /// Returns the host, the port and the database.
    #[cfg(feature = "postgres")]
    pub(crate) fn location(&self) -> crate::Result<(String, u16, String)> {
        let options = self.options()?;
        let host = match options.get_socket() {
            Some(socket) => socket.to_string_lossy().into_owned(),
            None => options.get_host().to_ascii_lowercase(),
        };
        let database = options.get_database();
        let database = database.unwrap_or(options.get_username()).to_owned();
        Ok((host, options.get_port(), database))
    }
}

const SSL_MODES: [&str; 6] = [
    "disable",
    "allow",
    "prefer",
    "require",
    "verify-ca",
    "verify-full",
];

/// Splits `host`, `host:port` or `[::1]:port` into host and port.
fn split_address(address: &str) -> Result<(&str, &str), &'static str> {
    let Some(bracketed) = address.strip_prefix('[') else {
        return match address.split_once(':') {
            Some((_, port)) if port.contains(':') => Err(
                "has several colons in its host: write an IPv6 address in brackets, as in [::1]",
            ),
            Some((host, port)) => Ok((host, port)),
            None => Ok((address, "")),
        };
    };
    let (host, port) = bracketed
        .split_once(']')
        .ok_or("has a host without its closing bracket")?;
    // A zone, as in fe80::1%eth0, isn't checked: the operating system resolves it.
    let number = host.split('%').next().unwrap_or_default();
    if !number
        .parse()
        .is_ok_and(|address: IpAddr| address.is_ipv6())
    {
        return Err("has a host in brackets that is not an IPv6 address");
    }
    match port.strip_prefix(':') {
        Some(port) => Ok((host, port)),
        None if port.is_empty() => Ok((host, "")),
        None => Err("has text other than a port after the bracket of its host"),
    }
}

fn decoded(part: &str) -> Result<String, &'static str> {
    let text = percent_decode_str(part).decode_utf8();
    text.map(Into::into)
        .map_err(|_| "has a %XX that is not UTF-8")
}

/// Escapes blanks, at which the server splits its options.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace(' ', "\\ ")
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted)
    }
}
