"""Real refusals with their meanings: the corpus of tests/test_bounces.py.

Collected from public bounce collections (Sisimai's and Mail::DeliveryStatus::
BounceParser's samples, the rules of ZoneMTA, BounceHandler, PHPMailer-BMH and dada-mail)
and from providers' documents and trackers. Addresses and hosts are replaced, and each
is on one line. We assigned the meanings: only a text that reports that the mailbox or
its domain does not exist is "no_mailbox" or "no_domain".
"""

from __future__ import annotations

_NO_MAILBOX = """
550-5.1.1 The email account that you tried to reach does not exist. Please try 550-5.1.1 double-checking the recipient's email address for typos or 550-5.1.1 unnecessary spaces. For more information, go to 550 5.1.1 https://support.google.com/mail/?p=NoSuchUser a1si1 - gsmtp
550-5.1.1 The email account that you tried to reach is inactive. For more 550 5.1.1 information go to https://support.google.com/mail/?p=NoSuchUser
550 5.2.1 The email account that you tried to reach is disabled. Learn more at https://support.google.com/mail/?p=DisabledUser
550 5.1.1 <jane@x.org>: Recipient address rejected: User unknown in virtual mailbox table
550 5.1.1 <jane@x.org>: Recipient address rejected: User unknown in local recipient table
550 5.1.1 <jane@x.org>: Recipient address rejected: User unknown in relay recipient table
550 <jane@x.org>: Recipient address rejected: User unknown in virtual alias table
550 5.1.1 <jane@x.org>... User unknown
553 5.3.0 <jane@x.org>... Addressee unknown, relay=[192.0.2.7]
553 5.3.0 <jane@x.org>... Recipient address no longer exists
550 5.1.1 User unknown; rejecting
550 jane@x.org... No such user
550 No such user (jane@x.org)
550 No such user here
550 No Such User Here"
550 5.1.1 No such user - gsmtp
550 5.7.1 No such user!
554 5.7.1 Unknown recipient
550 sorry, that recipient doesn't exist (#5.7.1)
550 jane@x.org:user not exist
550 User (jane@x.org) unknown.
550 unknown user <jane@x.org>
550 <jane@x.org> User not found
550 MAILBOX NOT FOUND
550 Mailbox ( jane@x.org ) not found or inactivated
550 Mailbox jane@x.org does not exist!
550 Mailbox doesn't exist
550 <jane@x.org> does not exist
550 RCPT (jane@x.org) dosn't exist
550 RCPT TO:<jane@x.org> User unknown
550 5.1.1 unknown or illegal alias: jane@x.org
550 unknown or illegal user jane@x.org
550 Invalid recipient: <jane@x.org>
550 Invalid Recipient - https://community.mimecast.com/docs/DOC-1369#550 [a.uk1]
550 <jane@x.org>: Invalid User
550 invalid mailbox
554 Invalid mailbox
550 address invalid
550 5.1.1 <jane@x.org>... email address lookup in domain map failed
550 User not a member of domain: <jane@x.org>
501 #5.1.1 bad address jane@x.org
550 #5.1.0 Address rejected.
550 5.1.0 Address rejected jane@x.org
5.1.0 - Unknown address error 550-'5.1.1 <jane@x.org> is not a valid mailbox'
550 Command RCPT User <jane@x.org> not OK
551 not our customer
551 <jane@x.org> is a deactivated mailbox
550 <jane@x.org>: Recipient address rejected: Account closed due to inactivity. No forwarding information is available.
554 delivery error: dd This user doesn't have a yahoo.com account (jane@x.org) [0] - mta1.mail.example
554 delivery error: dd Sorry your message to jane@x.org cannot be delivered. This account has been disabled or discontinued [#102]. - mta1.mail.example
554 30 Sorry, your message to jane@x.org cannot be delivered. This mailbox is disabled (554.30). - mta1.mail.example
552 1 Requested mail action aborted, mailbox not found
550-I'm sorry but jane@x.org does not have an account here. I will not accept it
550 user disabled
550 account expired
550 5.2.1 jane@x.org is expired account
550 No such recipient here
550 5.1.1 Recipient not found. <https://x.org/help>
550 5.1.1 recipient unknown
550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient jane@x.org not found by SMTP address lookup
550 5.1.1 RESOLVER.ADR.RecipNotFound; not found
550 5.1.1 RESOLVER.ADR.ExRecipNotFound; not found ##rfc822;jane@x.org
550 5.4.1 Recipient address rejected: Access denied. AS(201806281) [AM5EUR02FT019.eop-EUR02.prod.protection.outlook.com]
550 5.4.1 [jane@x.org]: Recipient address rejected: Access denied
550 5.5.0 Requested action not taken: mailbox unavailable [BN1NAM02FT012.eop-nam02.prod.protection.outlook.com]
550-Requested action not taken: mailbox unavailable 550 For explanation visit https://postmaster.gmx.net/en/error-messages?ip=192.0.2.1&c=rnf
550 5.1.1 Mail Refused - Address <jane@x.org> Recipient Unknown
550 5.1.1 sid: user unknown
550 5.1.1 [R2] Recipient jane@x.org does not exist here
550 5.1.1 unknown user
550 5.0.0 <jane@x.org>... User unknown
550 5.1.6 recipient no longer on server: jane@x.org
550 This address no longer accepts mail.
550 #5.1.1 jane@x.org This address no longer valid
550 Unrouteable address
550-5.1.1 Unrouteable address 550 5.1.1 jane@x.org
550 No mailbox here by that name
Sorry, no mailbox here by that name. (#5.1.1)
553 sorry, this recipient is not in my validrcptto list (#5.1.1)
550 5.1.1 Mailbox does not exist, please check the address
550 5.1.1 jane@x.org Adresse d au moins un destinataire invalide. Invalid recipient. OFR_416 [416]
550 5.1.1 Recipient (jane@x.org) does not exist
550 permanent failure for one or more recipients (jane@x.org:550 5.1.1 No such user)
550 There is no one at this address
550 no such person at this address
550 5.1.1 User jane unknown
X-Notes; User jane (jane@x.org) not listed in public Name & Address Book
550 jane@x.org is not a known user
550 5.1.1 Unknown local-part "jane" in <jane@x.org>
550 unknown local part in "jane@x.org"
550 Unknown email address
550 non-existent user jane
550 The user's email name is not found
550 5.1.1 no mail box available for this user
550 No mail box available for this user
550 Usuario desconocido
550 5.1.1 El usuario no existe
550 El buzón no existe
550 No existe ese usuario en este servidor
550 no existe dicha persona
550 5.1.1 Cuenta inexistente
550 Utilisateur inconnu !
550 5.1.1 Destinataire inconnu
550 Cette adresse n'existe pas
550 Benutzer unbekannt
550 5.1.0 Unbekannter Empfänger
550 Das Postfach existiert nicht
550 Utente sconosciuto
550 Destinatario sconosciuto o mailbox disatttivata
550 Indirizzo inesistente
550 nessun utente simile in questo indirizzo
550 Usuário inexistente
550 Destinatário não encontrado
550 Gebruiker onbekend
550 Nie ma takiego konta
550 konto nie istnieje
550 Пользователь не найден
550 Такой почтовый ящик не существует
550 用户不存在
550 5.1.1 宛先不明
Dropped due to bouncing recipient
"""

_NO_DOMAIN = """
550 Host unknown
550 5.1.2 <jane@x.org>... Host unknown (Name server: x.org: host not found)
Host or domain name not found. Name service error for name=x.org type=A: Host not found
[Domain not found] Host or domain name not found
Sorry, I couldn't find any host named x.org. (#5.1.2)
550 5.4.310 DNS domain x.org does not exist [Message=InfoDomainNonexistent]
556 5.1.10 Recipient address has null MX
550 5.1.2 No such domain
550 Unrouteable mail domain
550 No such domain at this location
550 Domain x.org does not exist
550 5.1.2 Bad destination system address
"""

_FULL = """
452 4.2.2 The email account that you tried to reach is over quota. Please direct the recipient to https://support.google.com/mail/?p=OverQuotaTemp
552-5.2.2 The email account that you tried to reach is over quota. 552 5.2.2 https://support.google.com/mail/?p=OverQuotaPerm
552 5.2.2 Over quota
552 Requested mailbox exceeds quota.
552 recipient storage full, try again later (in reply to RCPT TO command)
551 bounce as<the destination mailbox <jane@x.org> is full> queue as 100.1
550-5.7.1 Email quota exceeded.
554 5.2.2 mailbox full; STOREDRV.Deliver.Exception:QuotaExceededException
550 5.1.1 User's mailbox is full
550 Buzon lleno
552 5.2.2 This message is larger than the current system limit or the recipient's mailbox is full.
450 4.1.1 <jane@x.org>: Recipient address rejected: unverified address: Mailbox might be disabled, full, or may not exist
452 Insufficient system storage
550 5.1.1 Boîte du destinataire pleine
550 Postfach ist voll
"""

_SPAM = """
550-5.7.1 [192.0.2.1 12] Our system has detected that this message is likely unsolicited mail.
554 5.7.1 Message scored too high on spam scale. For help, please quote incident ID 22492290.
550 sorry, it seems as a junk mail
554 5.7.1 Rejected as Spam see: http://rejected.example.com/help/spam/rejected.html
550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. Please contact your Internet service provider since part of their network is on our block list (S3150).
550 5.2.1 Mailbox unavailable. Your IP address 192.0.2.1 is blacklisted using SPAMHAUS-XBL.
554 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org
550 https://www.spamhaus.org/query/ip/192.0.2.1
554 5.7.1 <jane@x.org>: Recipient address rejected: https://www.spamhaus.org/query/ip/192.0.2.1
550 csi.mimecast.org Poor Reputation Sender. - https://community.mimecast.com/docs/DOC-1369#550
553 VS10-RT Possible forgery or deactivated due to abuse (#5.1.1) 192.0.2.211
554- (RTR:BL) http://postmaster.info.aol.com/errors/554rtrbl.html 554 Connecting IP: 192.0.2.1
421 4.7.0 [TS01] Messages from 192.0.2.50 temporarily deferred due to user complaints - 4.16.55.1
550 spam message rejected. Please visit http://help.mail.ru/notspam-support/id?c=1
complaint rate of the account is too high
Dropped due to complaining recipient
"""

#: Blocked, or an ambiguous text: these must not be read as a missing mailbox or domain.
_NOT_HARD = """
550-5.2.1 The user you are trying to contact is receiving mail at a rate that prevents additional messages from being delivered.
450 4.2.1 The user you are trying to contact is receiving mail at a rate that prevents additional messages from being delivered. Please resend your message at a later time.
550-5.2.1 The user you are trying to contact is receiving mail at a rate that 550-5.2.1 prevents additional messages from being delivered. For more 550 5.2.1 information, go to https://support.google.com/mail/?p=ReceivingRatePerm
554 <jane@x.org>: Recipient address rejected: Access denied
554 <jane@x.org>: Recipient address rejected: SPF fail - not authorized
550 5.7.1 <jane@x.org>: Recipient address rejected: Message rejected due to: SPF fail
450 4.7.1 <jane@x.org>: Recipient address rejected: Greylisted, see http://postgrey.example/help
550-Response: 550 5.1.1 <shop@example.com>: Recipient address rejected: User unknown 550 Sender verify failed
550-Verification failed for <shop@example.com> 550-Unrouteable address 550 Sender verify failed
550-Verification failed for <shop@example.com> 550-The mail server could not deliver mail to shop@example.com. The account or domain may not exist, they may be blacklisted, or missing the proper dns entries. 550 Sender verify failed
550 5.1.0 Your account has been disabled. Please contact support
550 5.1.0 <shop@example.com>: Sender address rejected: User unknown in virtual mailbox table
550 5.1.8 <shop@example.com>: Sender address rejected: Domain not found
550 5.1.7 Invalid sender address
550 5.1.1 Backscatter Protection detected an invalid or unauthenticated address
550 Sender verify failed
The domain of the sender address shop@example.com does not exist
550 5.7.1 Sender domain could not be found in DNS
550 5.7.1 Your reverse DNS record could not be found
550 5.7.1 Only authenticated users that have an account here may send
554 5.7.1 Access denied - you must have an account on this system to relay
550 5.7.1 Message rejected: sender address error, check your SPF
550 5.7.1 Rechazado: el registro PTR no existe para su IP
550 5.7.1 Su servidor no existe en nuestra lista blanca
550 5.7.1 Unrouteable address: user does not exist on this relay
550 Relaying denied.
554 <jane@x.org>: Relay access denied
550 relaying to <jane@x.org> prohibited by administrator
550 Unable to relay for jane@x.org
553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)
553 User refused to receive this mail.
553 mailbox jane@x.org is restricted
550 <jane@x.org>: User status is locked.
550 User suspended
550 [SUSPEND] Mailbox currently suspended - Please contact correspondent directly
550 Recipient Rejected: Temporarily inactive
452 4.2.1 mailbox temporarily disabled: jane@x.org
550 5.2.1 Mailbox temporarily unavailable
550 <jane@x.org>... User account not activated
450 mailbox unavailable.
550 Requested action not taken: mailbox unavailable
550 5.7.1 Requested action not taken: mailbox not available
550 <jane@x.org> recipient rejected
550 5.7.1 Access-Denied-XM.SSR-001
550 5.7.511 Access denied, banned sender[192.0.2.1].
550 5.7.606 Access denied, banned sending IP [192.0.2.1]. To request removal from this list please visit https://sender.office.com/
550 5.7.26 Unauthenticated email from example.com is not accepted due to domain's DMARC policy.
550 5.7.23 SPF check failed
554 5.7.9 Message not accepted for policy reasons. See https://senders.yahooinc.com/error-codes
554 Message not allowed - [PH01] Email not accepted for policy reasons.
550 permanent failure for one or more recipients (jane@x.org:blocked)
550 5.7.133 RESOLVER.RST.SenderNotAuthenticatedForGroup; authentication required
550 5.7.1 RESOLVER.RST.AuthRequired; authentication required
550 5.2.0 STOREDRV.Deliver: cannot deliver
550 Too many invalid recipients
550 5.4.300 Message expired
550 5.4.4 Unable to route
421 RP-001 Unfortunately, some messages from 192.0.2.1 weren't sent.
451 4.7.1 Service unavailable - try again later
451 System(u) busy, try again later.
554 Transaction failed
554 5.5.2 Invalid data in message
553 5.3.5 system config error
554 5.6.0 Message with invalid header rejected, id=13462-01
550 Content reject. FAAAANsG60M9BmDT.1
554 sender is rejected: 0,mx20,wKjR5bDrnoM2yNtEZVAkBg==.32467S2
554 <unknown[192.0.2.1]>: Client host rejected: Access denied
554 Connection refused(mx). MAIL FROM [shop@example.com] mismatches client IP [192.0.2.1].
550 Verify mailfrom failed,blocked
553 AUTH FAILED - shop@example.com
550 Local user only or Authentication mechanism
500 Unauthorized relay msg rejected
Delivered by Exim 4.97.1 and refused
Host refused: Exim 4.1.1 said no
550 Mail without a List-Unsubscribe header is not accepted
message dropped: without a List-Unsubscribe header
550 5.1.1 Absender existiert nicht
550 Remitente desconocido
550 5.1.1 L'adresse de l'expéditeur n'existe pas
delivery temporarily suspended: connect to 192.0.2.112[192.0.2.112]: No route to host
conversation with 192.0.2.11[192.0.2.11] timed out while sending end of data
554 5.4.7 Delivery expired (message too old)
552 5.3.4 Message size exceeds fixed limit
552-5.7.0 This message was blocked because its content presents a potential security issue.
Dropped due to unsubscribed recipient
550
sorry
"""


def read_lines(text: str) -> list[str]:
    return text.strip().splitlines()


#: The lines of the corpus by kind; "" stands for any kind that does not suppress the address.
CORPUS = {
    "no_mailbox": read_lines(_NO_MAILBOX),
    "no_domain": read_lines(_NO_DOMAIN),
    "full": read_lines(_FULL),
    "spam": read_lines(_SPAM),
    "": read_lines(_NOT_HARD),
}
