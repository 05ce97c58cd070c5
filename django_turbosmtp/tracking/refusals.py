"""The table of refusals: texts of servers, and their meaning for the recipient.

Data only; `bounces.classify` reads it. Patterns match text from `bounces.normalize`.
They are whole phrases, because single words such as "blocked" or "unsubscribe" also
occur in texts with the opposite meaning.
"""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple

#: Why a recipient was refused, in django-anymail's words.
RejectReason = Literal[
    "invalid", "bounced", "timed_out", "blocked", "spam", "unsubscribed", "other"
]

#: The kind of problem, which pages show to staff.
BounceKind = Literal[
    "no_mailbox", "no_domain", "full", "blocked", "spam", "too_large", "slow", "other"
]


class Bounce(NamedTuple):
    """``reason``: django-anymail's word. ``kind``: the kind of problem."""

    reason: RejectReason
    kind: BounceKind


class Rule(NamedTuple):
    """One line of the table.

    ``example``: a text that matches and has this meaning. ``source``: the document
    that contains the text, or explains it.
    """

    pattern: re.Pattern[str]
    bounce: Bounce
    example: str
    source: str


NO_MAILBOX: Final = Bounce("bounced", "no_mailbox")
NO_DOMAIN: Final = Bounce("bounced", "no_domain")
FULL: Final = Bounce("bounced", "full")
SPAM: Final = Bounce("spam", "spam")
BLOCKED: Final = Bounce("blocked", "blocked")
TOO_LARGE: Final = Bounce("other", "too_large")
SLOW: Final = Bounce("timed_out", "slow")
UNSUBSCRIBED: Final = Bounce("unsubscribed", "other")
#: A text about a mailbox that may work again.
UNCERTAIN: Final = Bounce("bounced", "other")
OTHER: Final = Bounce("other", "other")

#: By subject and detail of an enhanced code (RFC 3463, and the IANA registry of RFC
#: 5248). 5.2.1 is missing: the mailbox "exists, but is not accepting messages", perhaps
#: only for a while. 5.1.0 and 5.5.0 are "other": only the text has a meaning.
CODES: Final[dict[tuple[int, int], Bounce]] = {
    (1, 1): NO_MAILBOX,
    (1, 2): NO_DOMAIN,
    (1, 3): Bounce("invalid", "no_mailbox"),
    (1, 6): NO_MAILBOX,
    (1, 7): BLOCKED,  # the sender's address
    (1, 8): BLOCKED,  # the sender's domain
    (1, 10): NO_DOMAIN,  # null MX, RFC 7505
    (2, 1): UNCERTAIN,
    (2, 2): FULL,
    (2, 3): TOO_LARGE,
    (3, 4): TOO_LARGE,
    (4, 7): SLOW,
}

_POSTFIX = "Postfix, access(5) and smtpd(8): reject texts"
_EXIM = "Exim specification, chapter 44: access control lists, and callouts"
_GOOGLE = "Google Workspace: SMTP error reference"
_MICROSOFT = "Microsoft: NDR error codes in Exchange Online"
_QMAIL = "qmail, qmail-send and qmail-smtpd: #x.y.z texts"
_SENDMAIL = "Sendmail: cf/README and proto.m4"
_YAHOO = "Yahoo sender hub: SMTP error codes"
_RFC5321 = "RFC 5321, 4.2.3"
_RFC3463 = "RFC 3463"
_TURBOSMTP = "turboSMTP: reasons of dropped mail (docs/wire.rst)"
_COMMON = "Common in public bounce collections; no document of one server"
_TRANSLATED = "Servers in other languages; translations of 'user unknown'"


def _rule(bounce: Bounce, example: str, source: str, *phrases: str) -> Rule:
    return Rule(re.compile("|".join(phrases)), bounce, example, source)


#: Texts with a clear meaning, although they match other rules ("access denied").
EXACT: Final[tuple[Rule, ...]] = (
    _rule(
        NO_MAILBOX,
        "Dropped due to bouncing recipient",
        _TURBOSMTP,
        r"\bbouncing recipient\b",
    ),
    _rule(
        SPAM,
        "Dropped due to complaining recipient",
        _TURBOSMTP,
        r"\bcomplaining recipient\b",
        r"\brecipient (?:has )?complained\b",
    ),
    _rule(
        UNSUBSCRIBED,
        "Dropped due to unsubscribed recipient",
        _TURBOSMTP,
        r"\bunsubscribed recipient\b",
        r"\brecipient (?:has )?unsubscribed\b",
        r"^unsubscribed$",
    ),
    # The code is needed: the text is also Postfix's wrapper around any refusal.
    _rule(
        NO_MAILBOX,
        "550 5.4.1 Recipient address rejected: Access denied. AS(201806281)",
        _MICROSOFT,
        r"\b5\.4\.1\b.{0,40}\brecipient address rejected: access denied\b",
    ),
)

#: Texts about the sender, a policy, a limit or a temporary condition. They take
#: precedence over codes and over the texts in `MISSING`: a server that refuses the
#: sender often quotes "user unknown", or uses a code for the recipient.
NOT_THE_RECIPIENT: Final[tuple[Rule, ...]] = (
    # --- Full, or too large ---
    _rule(
        FULL,
        "552 5.2.2 Over quota",
        _RFC3463 + ", 5.2.2",
        r"\b(?:over|exceed\w*|out of|above|beyond)(?: (?:its|the|his|their|your|disk|"
        r"mailbox|storage|mail|e-?mail|size|allowed|maximum|user|account|"
        r"message)){0,3} (?:quota|storage)\b",
    ),
    _rule(
        FULL,
        "550-5.7.1 Email quota exceeded.",
        _GOOGLE,
        r"\bquota (?:is )?(?:exceeded|exhausted|full|violation|limit|reached)\b",
    ),
    _rule(
        FULL,
        "551 bounce as<the destination mailbox <x@y.com> is full> queue as 100.1",
        _COMMON,
        r"\b(?:mailbox|inbox|account|folder|storage|mail ?drop|spool|disk|"
        r"box)\b[^.;]{0,80}\b(?:is |was |too |has become )?full\b",
    ),
    _rule(
        FULL,
        "552 Requested mail action aborted: exceeded storage allocation",
        _RFC5321,
        r"\bfull (?:mailbox|inbox)\b",
        r"\b(?:insufficient|not enough|no more|lacks) (?:\w+ )?(?:disk )?(?:storage|"
        r"space)\b",
        r"\bexceeded storage\b",
        r"\bstorage (?:limit|allocation|space)\b",
        r"\bno space left\b",
    ),
    _rule(
        FULL,
        "550 Buzon lleno",
        "Translations of 'mailbox full'",
        r"\b(?:buz[oó]n|bandeja|cuenta|casilla) (?:\S+ )?(?:est[aá] )?llen[oa]\b",
        r"\bbo[iî]te (?:\S+ )*?pleine\b",
        r"\bpostfach (?:\S+ )?(?:ist )?voll\b",
        r"\bcasella (?:\S+ )*?piena\b",
        r"\bcaixa (?:\S+ )*?cheia\b",
    ),
    _rule(
        TOO_LARGE,
        "552 message size exceeds fixed limit",
        "RFC 1870, 6",
        r"\bmessage (?:is )?too (?:large|big|long)\b",
        r"\b(?:message|mail) size exceeds\b",
        r"\bsize limit\b",
        r"\bexceeds (?:the )?(?:fixed |maximum )?(?:message )?size\b",
        r"\blarger than (?:the )?\w* ?\w* ?limit\b",
        r"\bfile too large\b",
    ),
    # --- Spam, and lists of senders ---
    _rule(
        SPAM,
        "550 5.7.1 Message rejected due to spam content",
        _GOOGLE,
        r"\b(?:as|is|like|be|contains?|considered|suspected|probable|possible|detected"
        r"|sending|resembles|likely|to|no|anti[- ]?) ?spam\b",
        r"\bspam(?: \w+)? (?:message|content|detected|filter\w*|score|scale|is|mail|"
        r"rejected|reject|not|reported|policy)\b",
        r"\bspam(?:trap|mers?|ming|my)\b",
        r"\bunsolicited\b",
        r"\bjunk ?mail\b",
        r"\bphishing\b",
        r"\babus(?:e|ive)\b",
        r"\b(?:554|550|5\.7\.1) (?:5\.7\.1 )?spam\b",
    ),
    _rule(
        SPAM,
        "554 Refused. 192.0.2.1 is listed on the Spamhaus XBL",
        _POSTFIX,
        r"\b(?:black|block|deny|reject)[- ]?list\w*",
        r"\bdnsbl\b",
        r"\brbl\b",
        r"\bspamhaus\b",
        r"\bspamcop\b",
        r"\bsorbs\b",
        r"\bbarracudacentral\b",
        r"\breputation\b",
        r"(?<!not )\blisted (?:at|on|in|by)\b",
        r"\bdenyip\b",
        r"\(rtr:",
        r"\(con:b",
    ),
    _rule(
        SPAM,
        "DROPPED: complaint rate of the account",
        _YAHOO,
        r"\b(?:user|recipient)? ?complaints?\b",
        r"\bcomplaint rate\b",
        r"\bcomplained about\b",
    ),
    # --- The sender ---
    _rule(
        BLOCKED,
        "550 5.1.8 Sender address rejected: Domain not found",
        _POSTFIX,
        r"\bsender(?:'s)? (?:e-?mail |ip |domain |envelope )?(?:address|domain|"
        r"verif\w+|callout|e-?mail|ip|policy|id|is|was|has|not|rejected|denied|refused"
        r"|blocked|unknown|invalid|host|server|name|reputation|must|could|cannot)\b",
        r"\b(?:invalid|unknown|bad|unverified|unauthori[sz]ed|unroutable|unrouteable|"
        r"bogus|forged|banned|poor reputation|null|empty|envelope|of|the) sender\b",
    ),
    _rule(
        BLOCKED,
        "550-Verification failed for <a@b.com> 550-Unrouteable address",
        _EXIM,
        r"\bcall-?out\b",
        r"\bverification failed for\b",
        r"\bverify mailfrom\b",
        r"\b(?:called|sent|response): .{0,200}\bsender\b",
    ),
    _rule(
        BLOCKED,
        "550 Error: MAIL FROM is mismatched with message header from address!",
        _COMMON,
        r"\breturn[- ]path\b",
        r"\b(?:mail|envelope|header|your|the)[- ]from\b",
        r"\bmail ?from(?:\b|:)",
        r"\bfrom (?:address|domain|header|field|e-?mail)\b",
        r"\bfrom: domain\b",
        r"\boriginat(?:or|ing)\b",
        r"\breply address\b",
        r"\bbackscatter\b",
        r"\bbatv\b",
        r"\bbounce address tag\b",
        r"\bnull reverse\b",
    ),
    # "Your message", "your mail" and "your envelope recipient" are about the recipient.
    _rule(
        BLOCKED,
        "550 5.1.0 Your account has been disabled. Please contact support",
        _COMMON,
        r"\byour (?:e-?mail )?(?:account|ip|ip address|server|domain|host|hostname|"
        r"mail ?server|isp|network|provider|sending|access|system|mailbox|client|"
        r"company|organi[sz]ation|reverse|helo|ehlo|address is)\b",
    ),
    _rule(
        BLOCKED,
        "554 <unknown[192.0.2.1]>: Client host rejected: Access denied",
        _POSTFIX,
        r"\bsending (?:ip|domain|server|host|mta|address|account|e-?mail)\b",
        r"\bclient (?:host|address|ip)\b",
        r"\bconnecting (?:ip|host)\b",
        r"\b(?:reverse|r)[- ]?dns\b",
        r"\bptr\b",
        r"\breverse (?:hostname|lookup)\b",
        r"\b(?:helo|ehlo)\b",
        r"\bmail from (?:this|that|ip|\d)",
    ),
    _rule(
        BLOCKED,
        "550 5.1.1 Absender existiert nicht",
        "Translations of 'sender'",
        r"\b(?:absender\w*|remitente|exp[eé]diteur|[eé]metteur|mittente|remetente|"
        r"afzender|nadawc\w+|avs[aä]ndare)\b",
        r"отправител",
        r"发件人",
        r"发信人",
        r"差出人",
        r"送信者",
    ),
    # --- Policies ---
    _rule(
        BLOCKED,
        "550 5.7.26 This mail has been blocked because the sender is unauthenticated.",
        _GOOGLE,
        r"\b(?:spf|dkim|dmarc|arc)\b",
        r"\bunauthenticated\b",
        r"\b(?:not |un)authori[sz]ed\b",
        r"\bauthenticat(?:ion|ed|e)\b",
        r"\bauth (?:failed|required)\b",
        r"\bnot permitted\b",
        r"\bpasswords?\b",
        r"\bnot allowed\b",
        r"\bno permi(?:t|ssion)\b",
        r"\bpermission denied\b",
    ),
    _rule(
        BLOCKED,
        "554 <a@b.example>: Recipient address rejected: Access denied",
        _POSTFIX,
        r"\baccess[- ]denied\b",
        r"\b(?:is|was|been|being|message|mail|e-?mail|ip|host|list|address|sender|"
        r"content|denied|temporarily|permanently|auto\w*|has) blocked\b",
        r"\bblocked (?:by|using|for|due|because|from|at|until|temporarily|in|on)\b",
        r":blocked\b",
        r"\bpolic(?:y|ies)\b",
        r"\bprohibit\w+\b",
        r"\bbanned\b",
        r"\bforbidden\b",
        r"\bby (?:the |an |our )?administrator\b",
        r"\badministrative(?:ly)? \w+\b",
        r"\brestrict(?:ed|ions?)\b",
        r"\bwhite-?list\w*",
        r"\bdenied by\b",
        r"\brefused by\b",
    ),
    _rule(
        BLOCKED,
        "554 <x@y.com>: Relay access denied",
        _POSTFIX,
        r"\brelay(?:ing)?\b.{0,20}\b(?:denied|prohibited|disallowed|refused)\b",
        r"\b(?:unable|cannot|not) to relay\b",
        r"\bdo(?:es)? not relay\b",
        r"\bunauthori[sz]ed relay\b",
        r"\bon this relay\b",
        r"\brcpthosts\b",
        r"\bnot local host\b",
        r"\bnot a gateway\b",
    ),
    _rule(
        BLOCKED,
        "550 Content reject. FAAAANsG60M9BmDT.1",
        _COMMON,
        r"\b(?:virus|malware|trojan|suspicious attachment)\b",
        r"\bcontent (?:is )?(?:reject\w*|blocked|filter\w*|violation)\b",
        r"\bmessage (?:was )?filtered\b",
        r"\bbad ?rcptto\b",
        r"\brefuses? (?:to )?(?:accept|receive)\w*\b",
        r"\brefused to receive\b",
        r"\bonly accept(?:s|ing)? mail from\b",
        r"\baccepting mail from\b",
    ),
    # --- Limits and temporary conditions ---
    _rule(
        BLOCKED,
        "550-5.2.1 The user you are trying to contact is receiving mail at a rate that",
        _GOOGLE,
        r"\bat a rate\b",
        r"\brate[- ]?limit\w*",
        r"\btoo (?:many|fast|quickly|much|busy|often|frequent\w*)\b",
        r"\b(?:limit|maximum|number) (?:of|on|for)? ?(?:\w+ ){0,3}(?:exceeded|"
        r"reached)\b",
        r"\bexceed\w* (?:the |a |its )?(?:\w+ ){0,3}(?:limit|rate|maximum|number)\b",
        r"\bthrottl\w+",
        r"\boverloaded\b",
        r"\bdaily (?:limit|receiving)\b",
    ),
    _rule(
        BLOCKED,
        "421 4.7.0 greylisted",
        "RFC 6647",
        r"\bgr[ea]y-?list\w*",
    ),
    _rule(
        SLOW,
        "connection timed out",
        _RFC3463 + ", 5.4.x",
        r"\b(?:connection|session|operation|transaction|callout|conversation)?"
        r" ?(?:timed? ?out|timeout)\b",
        r"\bdelivery (?:time )?expired\b",
        r"\btoo long in (?:the )?queue\b",
        r"\bretry time(?:out| not reached)\b",
        r"\bconnection (?:refused|reset|lost|dropped)\b",
        r"\bno route to host\b",
        r"\bmessage expired\b",
        r"\bunable to connect\b",
        r"\bnetwork is unreachable\b",
    ),
    _rule(
        UNCERTAIN,
        "550 Recipient Rejected: Temporarily inactive",
        _RFC3463 + ", class 4",
        r"\btemporar(?:y|ily)\b",
        r"\btry(?:ing)? (?:\w+ )?(?:again|later)\b",
        r"\blater again\b",
        r"\bat a later time\b",
        r"\bretry (?:later|again|in)\b",
        r"\bplease retry\b",
        r"\bfor now\b",
        r"\bcurrently\b",
        r"\bat (?:this|the) (?:moment|time)\b",
        r"\bbusy\b",
        r"\bsuspend\w*",
        r"\bfrozen\b",
        r"\blocked\b",
        r"\bnot (?:yet )?activated\b",
        r"\bunverified\b",
        r"\bin maintenance\b",
        r"\bunder maintenance\b",
        r"\bmigrat\w+",
        r"\bvor[uü]bergehend\b",
        r"\b(?:may|might) (?:not|be|have)\b",
        r"\btemporalmente\b",
        r"\btemporairement\b",
        r"\btemporaneamente\b",
        r"\btemporariamente\b",
    ),
)

_WHO = (
    r"(?:\b(?:user(?:name| ?id| account)?|recipients?|mailbox(?:es)?|mail ?box"
    r"|accounts?|address(?:es)?|addressee|alias(?:es)?|person|local part|rcpt|customer"
    r"|subscriber|e-?mail(?: (?:address|account|id|name))?)\b|@)"
)
#: Within a sentence: a full stop may only be part of a name.
_GAP = r"(?:[^.;]|\.(?=\S)){0,80}?"
_SHORT_GAP = r"(?:[^.;:]|\.(?=\S)){0,40}?"

#: Texts that are more exact than their codes.
BEFORE_CODES: Final[tuple[Rule, ...]] = (
    # Its code is 5.1.10, which RFC 7505 registers for a null MX.
    _rule(
        NO_MAILBOX,
        "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found",
        _MICROSOFT,
        r"\bresolver\.adr\.(?:ex)?reci?p?(?:ient)?notfound\b",
    ),
)

#: Texts that report that the mailbox, or its domain, does not exist.
MISSING: Final[tuple[Rule, ...]] = (
    # --- The domain ---
    _rule(
        NO_DOMAIN,
        "550 Host unknown",
        _SENDMAIL,
        r"\b(?:no such|unknown|non-?existent) (?:mail )?(?:domain|host)\b",
        r"\b(?:domain|host|hostname)(?: name)?(?: \S+){0,2} (?:is |was )?(?:not found|"
        r"unknown|does ?n[o']t exist|does not exist|no longer exists|cannot be found|"
        r"could not be found|not known)\b",
    ),
    _rule(
        NO_DOMAIN,
        "Sorry, I couldn't find any host named example.invalid.",
        _QMAIL,
        r"\bnxdomain\b",
        r"\bnull mx\b",
        r"\bcould ?n['o]t find any host\b",
        r"\bunrout(?:e)?able mail domain\b",
        r"\binfodomainnonexistent\b",
    ),
    # --- The mailbox ---
    _rule(
        NO_MAILBOX,
        "550 No such user here",
        _SENDMAIL,
        r"\b(?:no such|unknown|invalid|non-?existent|non-?existing|illegal|wrong|bad|"
        r"not a (?:known|valid|local)|unknown or illegal|invalid or unknown)"
        r" (?:(?:e-?mail|mail|virtual|local|destination|recipient|user|envelope|rcpt)"
        r" ){0,3}(?:user|recipient|mailbox|mail ?drop|account|address|person|local[-"
        r" ]part|alias|customer)(?:e?s)?\b",
    ),
    _rule(
        NO_MAILBOX,
        "550 <x@y.com>: Recipient address rejected: User unknown in relay table",
        _POSTFIX,
        rf"{_WHO}{_SHORT_GAP}[ ,:<(\[>)\]\-](?:is |was |are |has been )?(?:unknown|not"
        r" found|not be found|not known|non-?existent|not valid|not a valid|not listed"
        r" in|not local\b|not ok|not present in|not a member of domain|not (?:in|on)"
        r" (?:this|our|the) (?:system|server|domain|directory))\b",
    ),
    _rule(
        NO_MAILBOX,
        "550 address invalid",
        _COMMON,
        rf"{_WHO}(?: @)?(?: is| was)? invalid\b(?! \w)",
    ),
    _rule(
        NO_MAILBOX,
        "550 The email account that you tried to reach does not exist.",
        _GOOGLE,
        rf"{_WHO}{_GAP}\b(?:does ?n[o']t|doesn'?t|does not|don'?t|do not|dosn't|"
        r"not|no longer) exists?\b",
        r"^(?:\d{3}[ -]+)?(?:\d\.\d+\.\d+ )?(?:does not|doesn'?t) exist\b",
    ),
    _rule(
        NO_MAILBOX,
        "554 delivery error: dd This user doesn't have a yahoo.com account",
        _YAHOO,
        rf"{_WHO}{_SHORT_GAP}\b(?:doesn'?t|do not|does not) have an? (?:\S+"
        r" )?(?:account|mailbox)\b",
        r"\bno (?:mail ?box|account|one|user|person) (?:found|with that \w+(?: \w+)?|"
        r"by that name|of that name|for this user|here|at this address)\b",
        r"\bno mail ?box available for this user\b",
        r"\bnot our customer\b",
        r"\bnot an active address\b",
    ),
    _rule(
        NO_MAILBOX,
        "554 delivery error: This mailbox is disabled (554.30)",
        _YAHOO,
        rf"{_WHO}{_SHORT_GAP}(?: has been| is| was| are)?(?: now)? (?:disabled|"
        r"deactivated|closed|discontinued|deleted|removed|expired|terminated)\b",
        r"\b(?:disabled|deactivated|expired|deleted|closed) (?:mailbox|account|user)\b",
    ),
    _rule(
        NO_MAILBOX,
        "550 This address no longer accepts mail",
        _RFC3463 + ", 5.1.6",
        rf"{_WHO}{_SHORT_GAP}\bno longer (?:\w+ )?(?:active|available|valid|in use|in"
        r" service|here|with us|accepts?|exists?|used|employed)\b",
    ),
    _rule(
        NO_MAILBOX,
        "550 #5.1.0 Address rejected.",
        "Cisco Secure Email: reply to recipients that are not in the directory; Exim",
        r"\bunrout(?:e)?able (?:\w+ )?address\b",
        r"\bdoes not like recipient\b",
        r"\baddress lookup in domain map failed\b",
        r"\buser path no exist\b",
        r"\b5\.1\.0[ )\-]+(?:unknown )?address (?:rejected|error)",
    ),
    # Text of RFC 5321 for any 550, "or command rejected for policy reasons"; here from
    # servers that document it for a missing mailbox.
    _rule(
        NO_MAILBOX,
        "550 5.5.0 Requested action not taken: mailbox unavailable",
        _MICROSOFT,
        r"\b5\.5\.0 requested action not taken: mailbox unavailable\b",
        r"\brequested action not taken: mailbox"
        r" unavailable\b.{0,120}\bpostmaster-(?:gmx|web|mail|ionos|1and1)\b",
    ),
    # --- In other languages ---
    _rule(
        NO_MAILBOX,
        "550 5.1.0 Empfänger unbekannt",
        _TRANSLATED,
        r"\b(?:empf[aä]nger\w*|benutzer\w*|postfach|mailbox|adresse|konto|"
        r"nutzer)\b[^.;:]{0,60}(?:\bunbekannt|\bexistiert nicht|\bnicht (?:gefunden|"
        r"vorhanden|bekannt|existent)|\bung[uü]ltig)",
        r"\bunbekannter? (?:empf[aä]nger|benutzer|nutzer)",
        r"\bkein(?:e)? solche[rs]? (?:benutzer|empf[aä]nger|postfach|adresse)",
    ),
    _rule(
        NO_MAILBOX,
        "550 Usuario desconocido",
        _TRANSLATED,
        r"\b(?:usuario|destinatario|buz[oó]n|cuenta|direcci[oó]n|casilla|"
        r"correo)\b[^.;:]{0,60}\b(?:desconocid[oa]|no existe|inexistente|no"
        r" encontrad[oa]|no v[aá]lid[oa]|inv[aá]lid[oa])",
        r"\bno existe (?:el |la |ese |esa |este |esta |dich[oa] |tal )?(?:usuario|"
        r"destinatario|buz[oó]n|cuenta|direcci[oó]n|persona)\b",
    ),
    _rule(
        NO_MAILBOX,
        "550 Adresse d au moins un destinataire invalide. OFR_416",
        "Orange: codes of the 'Live' platform",
        r"\b(?:utilisateur|destinataire|adresse|bo[iî]te|"
        r"compte)s?\b[^.;:]{0,60}(?:\binconnue?|\bn[' ]existe (?:pas|plus)|"
        r"\binexistante?|\bintrouvable|\binvalide)",
    ),
    _rule(
        NO_MAILBOX,
        "550 Destinatario sconosciuto o mailbox disattivata",
        _TRANSLATED,
        r"\b(?:utente|destinatario|casella|indirizzo|"
        r"account)\b[^.;:]{0,60}\b(?:sconosciut[oa]|non (?:esiste|trovat[oa]|"
        r"valid[oa])|inesistente|errato)",
        r"\bnessun utente\b",
        r"\butente inesistente\b",
    ),
    _rule(
        NO_MAILBOX,
        "550 Usuário inexistente",
        _TRANSLATED,
        r"\b(?:usu[aá]rio|destinat[aá]rio|caixa(?: postal)?|conta|"
        r"endere[cç]o)\b[^.;:]{0,60}\b(?:desconhecid[oa]|n[aã]o (?:existe|"
        r"encontrad[oa])|inexistente|inv[aá]lid[oa])",
    ),
    _rule(
        NO_MAILBOX,
        "550 5.1.0 Gebruiker onbekend",
        _TRANSLATED,
        r"\b(?:gebruiker|ontvanger|mailbox|postbus|adres|konto|odbiorca|u[zż]ytkownik|"
        r"adresat|skrzynka|anv[aä]ndare|mottagare|bruker|mottaker|modtager|u[zž]ivatel"
        r"|kullan[iı]c[iı]|al[iı]c[iı])\w*\b[^.;:]{0,60}(?:\bonbekend|\bbestaat niet|"
        r"\bniet gevonden|\bnie istnieje|\bnieznan\w+|\bnie znaleziono|\bok[aä]nd|"
        r"\bukjent|\bukendt|\bfinns inte|\bfinnes ikke|\bneexistuje|\bbulunamad[iı])",
        r"\bonbekende (?:gebruiker|ontvanger)",
        r"\bnie ma takiego (?:konta|u[zż]ytkownika|adresu)",
        r"\bnieznan\w+ (?:u[zż]ytkownik|odbiorca|adresat)",
        r"\bok[aä]nd (?:anv[aä]ndare|mottagare)",
    ),
    _rule(
        NO_MAILBOX,
        "550 Пользователь не найден",
        _TRANSLATED,
        r"(?:пользовател\w*|получател\w*|ящик\w*|адрес\w*|аккаунт\w*)[^.;:]{0,60}(?:не"
        r" найден|не существует|неизвест)",
        r"нет такого (?:пользователя|получателя|ящика|адреса)",
        r"неизвестн\w+ (?:пользователь|получатель|адрес)",
        r"(?:用户|用戶|收件人|邮箱|郵箱|帐号|账号|地址)[^。]{0,12}(?:不存在|未找到|无效)",
        r"(?:不存在的|无此)(?:用户|收件人|邮箱)",
        r"宛先(?:が)?不明",
        r"(?:ユーザー?|宛先|メールアドレス|受信者)[^。]{0,12}(?:存在しません|見つかりません|不明)",
    ),
)

#: Texts that do not suppress a recipient, but have a useful meaning for staff.
OTHERS: Final[tuple[Rule, ...]] = (
    _rule(
        UNCERTAIN,
        "550 Requested action not taken: mailbox unavailable",
        _RFC5321 + ": 'or command rejected for policy reasons'",
        r"\b(?:mailbox|account|user|recipient)\b[^.;]{0,60}\b(?:unavailable|not"
        r" available|inactive|not accept\w+)\b",
        r"\binactive (?:user|mailbox|account)\b",
        r"\brecipient (?:address )?rejected\b",
        r"\baddress rejected\b",
    ),
    _rule(
        BLOCKED,
        "554 Message not accepted",
        _COMMON,
        r"\b(?:unauthorized|denied|blocked|refused|rejected|not accepted)\b",
    ),
)
