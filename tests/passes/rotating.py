"""Specs whose state rotates, one for each way to write it and for each thing that a rotation meets."""

HEAD = "input q, k: K; input v: V; state S: K, V\n"
READ = "\ny[t] = S[t].T @ q[t]"

ROTATING = {
    "one angle for all times": HEAD + "param theta: K/2; S[t] = rot(theta).T @ S[t-1] + k[t] @ v[t].T" + READ,
    "an angle for each token": HEAD + "input w: K/2; S[t] = rot(w[t]) @ S[t-1] + k[t] @ v[t].T" + READ,
    "two rotations": HEAD
    + "input w: K/2; param theta: K/2; S[t] = rot(theta) @ (rot(w[t]).T @ S[t-1]) + k[t] @ v[t].T"
    + READ,
    "a scalar decay": HEAD
    + """input w: K/2; input g: scalar in [-inf, 0]
      S[t] = exp(g[t]) * (rot(w[t]) @ S[t-1]) + k[t] @ v[t].T"""
    + READ,
    "reads at every moment": HEAD
    + """input w: K/2; input g: scalar in [-inf, 0]
      R = rot(w[t]) @ (exp(g[t]) * S[t-1])
      S[t] = R + k[t] @ v[t].T
      y[t] = S[t-1].T @ q[t] + R.T @ k[t] + (rot(w[t]) @ S[t]).T @ q[t]""",
    "a decay over the other axis": HEAD
    + """input w: K/2; input gv: V in [-inf, 0]
      S[t] = rot(w[t]) @ (S[t-1] * exp(gv[t]).T) + k[t] @ v[t].T
      y[t] = S[t].T @ q[t] + S[t-1].T @ k[t]""",
    "columns": HEAD
    + """input w: V/2; input gk: K in [-inf, 0]
      S[t] = diag(exp(gk[t])) @ (S[t-1] @ rot(w[t])) + k[t] @ v[t].T
      y[t] = S[t].T @ q[t] + S[t-1].T @ k[t]""",
    "values first": """input q, k: K; input v: V; input w: K/2; input g: scalar in [-inf, 0]; state S: V, K
      S[t] = exp(g[t]) * S[t-1] @ rot(w[t]).T + v[t] @ k[t].T
      y[t] = S[t] @ q[t]""",
    "an erase after it": HEAD
    + """input w: K/2; input g: scalar in [-inf, 0]; input beta: scalar in [0, 1]
      R = exp(g[t]) * (rot(w[t]) @ S[t-1])
      S[t] = R + l2norm(k[t]) @ (beta[t] * (v[t] - R.T @ l2norm(k[t]))).T"""
    + READ,
    "an erase before it": HEAD
    + """input w: K/2; input a: K
      S[t] = rot(w[t]) @ S[t-1] + l2norm(k[t]) @ (v[t] - S[t-1].T @ l2norm(a[t])).T"""
    + READ,
    "both directions, signs": """input q, k: K; input v: V; input w: K/2; input g: scalar in [-1, 1]; state S, F: K, V
      S[t] = g[t] * (rot(w[t+1]) @ S[t+1]) + k[t] @ v[t].T
      F[t] = g[t] * (rot(w[t]).T @ F[t-1]) + k[t] @ v[t].T
      y[t] = (S[t+1] + F[t]).T @ q[t]""",
    "a vector by value": """input x: K; param theta: K/2; input g: scalar in [-inf, 0]; state h: K
      h[t] = rot(theta) @ (exp(g[t]) * h[t-1]) + x[t]
      y[t] = h[t] + tanh(h[t-1])""",
    "a vector that is contracted": """input x, q: K; param theta: K/2; state h: K
      h[t] = rot(theta) @ h[t-1] + x[t]
      y[t] = (h[t].T @ q[t]) * q[t]""",
    "a write that it turns": HEAD + "input w: K/2; S[t] = rot(w[t]) @ (S[t-1] + k[t-1] @ v[t-1].T)" + READ,
}  # fmt: skip

# What no chunk can absorb, and a fragment of the law.
REFUSED = {
    "decay per channel": HEAD
    + "input w: K/2; input g: K in [-inf, 0]; S[t] = diag(exp(g[t])) @ (rot(w[t]) @ S[t-1]) + k[t] @ v[t].T"
    + READ,
    "decay per channel before it": HEAD
    + "input w: K/2; input g: K in [-inf, 0]; S[t] = rot(w[t]) @ (diag(exp(g[t])) @ S[t-1]) + k[t] @ v[t].T"
    + READ,
    "a sum of rotations": HEAD
    + "input w: K/2; S[t] = S[t-1] + rot(w[t]) @ S[t-1] + k[t] @ v[t].T"
    + READ,
    "an angle of the state": HEAD
    + "state p: K/2; p[t] = tanh(p[t-1]) + ones(K/2); S[t] = rot(p[t-1]) @ S[t-1] + k[t] @ v[t].T"
    + READ,
    "columns under an erase": HEAD
    + "input w: V/2; S[t] = S[t-1] @ rot(w[t]) + k[t] @ (v[t] - S[t-1].T @ k[t]).T"
    + READ,
}  # fmt: skip
LAWS = {
    "decay per channel": "a rotation of channels that decay apart",
    "decay per channel before it": "a rotation of channels that decay apart",
    "a sum of rotations": "a sum of several rotations",
    "an angle of the state": "not linear in p",
    "columns under an erase": "rotates along its columns and erases along its rows",
}


def spec(body: str) -> str:
    """The text of a whole spec."""
    return f"mixer rotating\n{body}\n"
