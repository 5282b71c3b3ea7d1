// What administrators do: sign in, transfer leadership, run a drill, take a backup, sign out.

const $ = (id) => document.getElementById(id);
const NEXT = "the most advanced";

let code = "", isBusy = false;

async function ask(path, content) {
  const given = content === undefined ? {} : {
    method: "POST", body: JSON.stringify(content), headers: { "Content-Type": "application/json", "X-Parley-Code": code },
  };
  const reply = await fetch(path, { cache: "no-store", ...given });
  if (!reply.ok) {
    if (reply.status === 401 && code) show({ account: "", may_sign_in: true, code: "" });
    throw new Error((await reply.json()).error);
  }
  return reply;
}

function show(session) {
  code = session.code;
  $("open-sign-in").hidden = Boolean(session.account) || !session.may_sign_in;
  $("signed-in").hidden = $("administration").hidden = !session.account;
  $("account").textContent = session.account;
}

const tell = (text, isBad = false) => {
  $("outcome").textContent = text;
  $("outcome").classList.toggle("bad", isBad);
};

// One thing at a time: what another button does meanwhile would say nothing about this one.
async function act(begun, work) {
  if (isBusy) return;
  isBusy = true;
  const buttons = $("administration").querySelectorAll("button, select");
  buttons.forEach((button) => (button.disabled = true));
  const focused = document.activeElement;
  tell(begun);
  try {
    tell(await work());
  } catch (error) {
    tell(error.message, true);
  } finally {
    isBusy = false;
    buttons.forEach((button) => (button.disabled = false));
    if (!$("administration").hidden && focused?.isConnected) focused.focus();
  }
}

async function transfer() {
  const { leader } = await (await ask("/transfer", { name: $("target").value })).json();
  return `${leader} leads now.`;
}

async function drill() {
  const found = await (await ask("/drill", {})).json();
  const pause = `The longest pause was ${Math.round(found.pause_ms)} ms, and ${Math.round(found.usual_ms)} ms are usual.`;
  return `Leadership went from ${found.before || "nobody"} to ${found.after}. Of ${found.sent} messages ${found.lost} were lost and ${found.doubled} doubled. ${pause}`;
}

async function backup() {
  const reply = await ask("/backup", {});
  const file = await reply.blob();
  const name = /filename="([^"]+)"/.exec(reply.headers.get("Content-Disposition"))[1];
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  return `${name} has ${file.size} bytes. Check it: parleyd backup verify ${name}`;
}

// The page calls this with what it was told. The choice stays as it is, unless the nodes change.
export function showTargets(nodes) {
  const names = nodes.filter((node) => node.voter).map((node) => node.name);
  if ($("target").dataset.names === names.join()) return;
  $("target").dataset.names = names.join();
  const option = (value, text) => Object.assign(document.createElement("option"), { value, textContent: text });
  $("target").replaceChildren(option("", NEXT), ...names.map((name) => option(name, name)));
}

async function signIn() {
  $("sign-in-error").textContent = "";
  try {
    const reply = await ask("/session", { name: $("name").value, password: $("password").value });
    $("sign-in").close();
    show(await reply.json());
    $("administration-title").scrollIntoView({ block: "nearest" });
    $("sign-out").focus();
  } catch (error) {
    $("sign-in-error").textContent = error.message;
    $("password").focus();
  } finally {
    $("password").value = "";
  }
}

function listen() {
  $("open-sign-in").addEventListener("click", () => $("sign-in").showModal());
  $("cancel-sign-in").addEventListener("click", () => $("sign-in").close());
  $("sign-in-form").addEventListener("submit", (event) => { event.preventDefault(); signIn(); });
  $("transfer-form").addEventListener("submit", (event) => {
    event.preventDefault();
    act("The leadership is being transferred.", transfer);
  });
  $("drill").addEventListener("click", () => act("The drill runs. It takes some seconds.", drill));
  $("backup").addEventListener("click", () => act("The backup is being made.", backup));
  $("sign-out").addEventListener("click", async () => {
    try {
      show(await (await ask("/sign-out", {})).json());
      tell("");
      $("open-sign-in").focus();
    } catch (error) {
      tell(error.message, true);
    }
  });
}

export async function startAdministration() {
  listen();
  try {
    show(await (await ask("/session")).json());
  } catch {
    show({ account: "", may_sign_in: true, code: "" }); // the node says by itself why it does not sign in
  }
}
