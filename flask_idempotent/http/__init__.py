"""HTTP: functions on a Werkzeug request or response; no Flask."""
